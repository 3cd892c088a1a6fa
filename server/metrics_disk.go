package server

import (
	"github.com/prometheus/client_golang/prometheus"

	"hearth/engine"
	"hearth/sessions"
)

// diskMetrics are read from the disk store of computed blocks when somebody asks.
var diskMetrics = []statMetric[engine.DiskStats]{
	diskGauge("records", "Blocks and states on disk.", func(s *engine.DiskStats) float64 { return float64(s.Records) }),
	diskGauge("pinned", "Of these, those that are pinned.", func(s *engine.DiskStats) float64 { return float64(s.Pinned) }),
	diskGauge("bytes", "Bytes of the files.", func(s *engine.DiskStats) float64 { return float64(s.Bytes) }),
	diskGauge("budget_bytes", "Bytes that the files may take.", func(s *engine.DiskStats) float64 { return float64(s.Budget) }),
	diskGauge("garbage_bytes", "Of the files' bytes, those that compaction will free.", func(s *engine.DiskStats) float64 { return float64(s.Garbage) }),
	diskGauge("queued", "Records that are still to be written.", func(s *engine.DiskStats) float64 { return float64(s.Queued) }),
	diskGauge("read_bytes_per_second", "Measured speed of reading, 0 before the first.", func(s *engine.DiskStats) float64 { return s.ReadSpeed }),
	diskGauge("write_bytes_per_second", "Measured speed of writing, 0 before the first.", func(s *engine.DiskStats) float64 { return s.WriteSpeed }),
	diskGauge("failing", "1 while nothing can be written, which the log explains; requests go on without.", func(s *engine.DiskStats) float64 {
		if s.Failing != nil {
			return 1
		}
		return 0
	}),
	diskCounter("written_total", "Records written.", func(s *engine.DiskStats) float64 { return float64(s.Written) }),
	diskCounter("written_bytes_total", "Bytes of records written.", func(s *engine.DiskStats) float64 { return float64(s.WrittenBytes) }),
	diskCounter("read_total", "Records read.", func(s *engine.DiskStats) float64 { return float64(s.Read) }),
	diskCounter("read_bytes_total", "Bytes of records read.", func(s *engine.DiskStats) float64 { return float64(s.ReadBytes) }),
	diskCounter("missed_total", "Reads of records that were not there.", func(s *engine.DiskStats) float64 { return float64(s.Missed) }),
	diskCounter("damaged_total", "Records found damaged, and forgotten.", func(s *engine.DiskStats) float64 { return float64(s.Damaged) }),
	diskCounter("lost_total", "Records whose files somebody else removed.", func(s *engine.DiskStats) float64 { return float64(s.Lost) }),
	diskCounter("dropped_total", "Records not written, for a full queue or a failing disk.", func(s *engine.DiskStats) float64 { return float64(s.Dropped) }),
	diskCounter("evicted_total", "Records that gave way to others.", func(s *engine.DiskStats) float64 { return float64(s.Evicted) }),
}

func diskGauge(name, help string, value func(*engine.DiskStats) float64) statMetric[engine.DiskStats] {
	return statMetric[engine.DiskStats]{prometheus.NewDesc("hearth_disk_"+name, help, nil, nil), prometheus.GaugeValue, value}
}

func diskCounter(name, help string, value func(*engine.DiskStats) float64) statMetric[engine.DiskStats] {
	return statMetric[engine.DiskStats]{prometheus.NewDesc("hearth_disk_"+name, help, nil, nil), prometheus.CounterValue, value}
}

// diskCollector reads the store's own counters. Without a store there are no series.
type diskCollector struct{ store *sessions.Store }

// Describe is part of prometheus.Collector.
func (c diskCollector) Describe(descs chan<- *prometheus.Desc) {
	for i := range diskMetrics {
		descs <- diskMetrics[i].desc
	}
}

// Collect is part of prometheus.Collector.
func (c diskCollector) Collect(out chan<- prometheus.Metric) {
	stats, ok := c.store.Disk()
	if !ok {
		return
	}
	for i := range diskMetrics {
		out <- diskMetrics[i].collect(&stats)
	}
}
