package cpu

// sharedCopy is the size from which the workers copy together: memory that is touched for the first time comes from the
// system page by page, which takes several times as long as the copy.
const sharedCopy = 1 << 20

// copying is the job of copying bytes, each worker a share of whole cache lines.
type copying struct {
	dst, src []byte // of equal length
	workers  int
}

// work implements job.
func (c *copying) work(id int) {
	share := roundUp((len(c.src)+c.workers-1)/c.workers, align)
	from, to := min(id*share, len(c.src)), min((id+1)*share, len(c.src))
	copy(c.dst[from:to], c.src[from:to])
}

// copyTogether copies src to the beginning of dst.
func (q *queue) copyTogether(dst, src []byte) {
	if len(src) < sharedCopy || q.crew.active == 1 {
		copy(dst, src)
		return
	}
	q.copying = copying{dst[:len(src)], src, q.crew.active}
	if _, err := q.device.pool.run(&q.copying, q.crew.active); err != nil {
		q.fault = err
	}
	q.copying = copying{}
}
