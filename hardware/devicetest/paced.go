package devicetest

import (
	"context"
	"time"

	"hearth/hardware"
)

// Paced is a device on which every step takes the same time, for tests of what happens in the middle of an answer. In a
// bubble of testing/synctest that time passes only when nothing else can be done: whatever follows from a token has happened
// before the next one is computed, however busy the machine is. The device must have no workers, for which a bubble would
// wait.
type Paced struct {
	hardware.Device
	Step time.Duration
}

// Load loads a program onto the device.
func (d Paced) Load(ctx context.Context, p *hardware.Program, l hardware.Limits) (hardware.Queue, error) {
	q, err := d.Device.Load(ctx, p, l)
	if err != nil {
		return nil, err
	}
	return pacedQueue{q, d.Step}, nil
}

type pacedQueue struct {
	hardware.Queue
	step time.Duration
}

func (q pacedQueue) Run(section hardware.Section, b *hardware.Batch) {
	time.Sleep(q.step)
	q.Queue.Run(section, b)
}
