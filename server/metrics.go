package server

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"hearth/engine"
	"hearth/engine/api"
	"hearth/sessions"
)

// Buckets in seconds, from a small model on a fast machine to a long prompt on a slow one.
var (
	tokenBuckets   = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5}
	requestBuckets = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800}
)

// metrics counts what the server does. Counters of the engines are read from them when somebody asks.
type metrics struct {
	registry *prometheus.Registry
	now      func() time.Time

	requests   *prometheus.CounterVec   // by route, status, reason, model
	took       *prometheus.HistogramVec // by route, model
	firstToken *prometheus.HistogramVec // by model, as all below
	interToken *prometheus.HistogramVec
	queued     *prometheus.HistogramVec
	prefill    *prometheus.HistogramVec
	decode     *prometheus.HistogramVec
}

func newMetrics(store *sessions.Store, now func() time.Time) *metrics {
	histogram := func(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: "hearth", Name: name, Help: help, Buckets: buckets}, labels)
	}
	m := &metrics{
		registry: prometheus.NewRegistry(), now: now,
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "hearth", Name: "requests_total", Help: "Requests answered, by route, HTTP status, and finish reason or error code.",
		}, []string{"route", "status", "reason", "model"}),
		took:       histogram("request_seconds", "Time from a request's arrival to the end of its answer.", requestBuckets, "route", "model"),
		firstToken: histogram("time_to_first_token_seconds", "Time from a request's arrival to its first text.", requestBuckets, "model"),
		interToken: histogram("inter_token_seconds", "Time between two pieces of text of one choice.", tokenBuckets, "model"),
		queued:     histogram("queue_seconds", "Time a sequence waited for its first step.", requestBuckets, "model"),
		prefill:    histogram("prefill_seconds", "Time from a sequence's first step to its first token.", requestBuckets, "model"),
		decode:     histogram("decode_seconds", "Time from a sequence's first token to its last.", requestBuckets, "model"),
	}
	m.registry.MustRegister(m.requests, m.took, m.firstToken, m.interToken, m.queued, m.prefill, m.decode, engineCollector{store}, diskCollector{store},
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// ended counts a request.
func (m *metrics) ended(x *exchange, status int, took time.Duration) {
	m.requests.WithLabelValues(x.route.path, strconv.Itoa(status), x.reason, x.model).Inc()
	if x.route.scope == scopeInference {
		m.took.WithLabelValues(x.route.path, x.model).Observe(took.Seconds())
	}
}

// meter measures one request's run.
type meter struct {
	m       *metrics
	model   string
	started time.Time
	begun   bool
	last    map[[2]int]time.Time // when a choice last had text, by turn and choice
}

func (m *metrics) meter(model string, started time.Time) meter {
	return meter{m: m, model: model, started: started, last: map[[2]int]time.Time{}}
}

// observe measures the arrival of a piece.
func (t *meter) observe(p piece) {
	if p.Text != "" || p.Tokens != nil {
		now := t.m.now()
		if !t.begun {
			t.begun = true
			t.m.firstToken.WithLabelValues(t.model).Observe(now.Sub(t.started).Seconds())
		}
		key := [2]int{p.turn, p.Choice}
		if last, ok := t.last[key]; ok {
			t.m.interToken.WithLabelValues(t.model).Observe(now.Sub(last).Seconds())
		}
		t.last[key] = now
	}
	if p.Finish != nil {
		timing := p.Finish.Timing
		t.m.queued.WithLabelValues(t.model).Observe(timing.Queued.Seconds())
		t.m.prefill.WithLabelValues(t.model).Observe(timing.Prefill.Seconds())
		t.m.decode.WithLabelValues(t.model).Observe(timing.Decode.Seconds())
	}
}

// statMetric is one figure of statistics that something else keeps.
type statMetric[S any] struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(*S) float64
}

// collect reads the figure; labels are the values of those that it is described with.
func (m *statMetric[S]) collect(stats *S, labels ...string) prometheus.Metric {
	return prometheus.MustNewConstMetric(m.desc, m.kind, m.value(stats), labels...)
}

// engineMetrics are read from each engine when somebody asks.
var engineMetrics = []statMetric[engine.Stats]{
	engineGauge("sequences_running", "Sequences in the batch.", func(s *engine.Stats) float64 { return float64(s.Running) }),
	engineGauge("sequences_waiting", "Sequences that wait to run.", func(s *engine.Stats) float64 { return float64(s.Waiting) }),
	engineGauge("kv_blocks", "Blocks of the KV cache.", func(s *engine.Stats) float64 { return float64(s.BlocksTotal) }),
	engineGauge("kv_blocks_used", "Blocks that running sequences refer to.", func(s *engine.Stats) float64 { return float64(s.BlocksUsed) }),
	engineGauge("kv_blocks_cached", "Blocks that hold a prefix and are free to be evicted.", func(s *engine.Stats) float64 { return float64(s.BlocksCached) }),
	engineGauge("state_snapshots", "States of sequences that may be kept, of a model that has any.", func(s *engine.Stats) float64 { return float64(s.SnapshotsTotal) }),
	engineGauge("state_snapshots_held", "States that are kept, each at the end of a cached prefix.", func(s *engine.Stats) float64 { return float64(s.SnapshotsHeld) }),
	engineCounter("states_saved_total", "States of sequences copied aside.", func(s *engine.Stats) float64 { return float64(s.StatesSaved) }),
	engineCounter("states_loaded_total", "States that sequences went on from.", func(s *engine.Stats) float64 { return float64(s.StatesLoaded) }),
	engineCounter("prompt_tokens_total", "Tokens of the prompts of ended sequences.", func(s *engine.Stats) float64 { return float64(s.PromptTokens) }),
	engineCounter("prefix_hit_tokens_total", "Of the prompt tokens, those found in the cache.", func(s *engine.Stats) float64 { return float64(s.CachedTokens) }),
	engineCounter("prefix_restored_tokens_total", "Of the tokens found in the cache, those that came from disk.", func(s *engine.Stats) float64 { return float64(s.RestoredTokens) }),
	engineCounter("prefix_written_tokens_total", "Of the prompt tokens, those computed and left in the cache for others.", func(s *engine.Stats) float64 { return float64(s.WrittenTokens) }),
	engineGauge("sequences_restoring", "Running sequences that are read from disk.", func(s *engine.Stats) float64 { return float64(s.Tier.Restoring) }),
	engineGauge("unsaved", "Blocks and states that are still to be saved to disk.", func(s *engine.Stats) float64 { return float64(s.Tier.Unsaved) }),
	engineCounter("blocks_saved_total", "Blocks handed to the disk.", func(s *engine.Stats) float64 { return float64(s.Tier.SavedBlocks) }),
	engineCounter("blocks_restored_total", "Blocks that came from disk.", func(s *engine.Stats) float64 { return float64(s.Tier.RestoredBlocks) }),
	engineCounter("restores_abandoned_total", "Restores given up because computing was faster.", func(s *engine.Stats) float64 { return float64(s.Tier.Abandoned) }),
	engineCounter("generated_tokens_total", "Tokens generated by ended sequences.", func(s *engine.Stats) float64 { return float64(s.GeneratedTokens) }),
	engineCounter("steps_total", "Steps of the batching loop.", func(s *engine.Stats) float64 { return float64(s.Steps) }),
	engineCounter("step_rows_total", "Tokens computed by all steps.", func(s *engine.Stats) float64 { return float64(s.StepRows) }),
	engineCounter("preemptions_total", "Sequences that gave up their blocks and came back.", func(s *engine.Stats) float64 { return float64(s.Preemptions) }),
}

func engineGauge(name, help string, value func(*engine.Stats) float64) statMetric[engine.Stats] {
	return statMetric[engine.Stats]{prometheus.NewDesc("hearth_"+name, help, []string{"model"}, nil), prometheus.GaugeValue, value}
}

func engineCounter(name, help string, value func(*engine.Stats) float64) statMetric[engine.Stats] {
	return statMetric[engine.Stats]{prometheus.NewDesc("hearth_"+name, help, []string{"model"}, nil), prometheus.CounterValue, value}
}

var sequencesEnded = prometheus.NewDesc("hearth_sequences_total", "Sequences ended, by how.", []string{"model", "reason"}, nil)

// What speculation guessed.
var (
	draftedTokens = prometheus.NewDesc("hearth_draft_tokens_total", "Tokens that were guessed and checked, by where the guesses came from.",
		[]string{"model", "source"}, nil)
	acceptedTokens = prometheus.NewDesc("hearth_draft_tokens_accepted_total", "Of the guessed tokens, those that were right.",
		[]string{"model", "source"}, nil)
	acceptanceRatio = prometheus.NewDesc("hearth_draft_acceptance_ratio", "Accepted of the guessed tokens since the model was loaded.",
		[]string{"model", "source"}, nil)
)

// engineCollector reads the engines' own counters.
type engineCollector struct{ store *sessions.Store }

// Describe is part of prometheus.Collector.
func (c engineCollector) Describe(descs chan<- *prometheus.Desc) {
	for i := range engineMetrics {
		descs <- engineMetrics[i].desc
	}
	descs <- sequencesEnded
	descs <- draftedTokens
	descs <- acceptedTokens
	descs <- acceptanceRatio
}

// Collect is part of prometheus.Collector.
func (c engineCollector) Collect(out chan<- prometheus.Metric) {
	for model, stats := range c.store.Stats() {
		for i := range engineMetrics {
			out <- engineMetrics[i].collect(&stats, model)
		}
		for _, d := range stats.Drafts {
			out <- prometheus.MustNewConstMetric(draftedTokens, prometheus.CounterValue, float64(d.Drafted), model, d.Source)
			out <- prometheus.MustNewConstMetric(acceptedTokens, prometheus.CounterValue, float64(d.Accepted), model, d.Source)
			if d.Drafted > 0 {
				ratio := float64(d.Accepted) / float64(d.Drafted)
				out <- prometheus.MustNewConstMetric(acceptanceRatio, prometheus.GaugeValue, ratio, model, d.Source)
			}
		}
		for reason, n := range stats.Requests {
			out <- prometheus.MustNewConstMetric(sequencesEnded, prometheus.CounterValue, float64(n), model, api.FinishReason(reason).String())
		}
	}
}

// writeMetrics answers GET /metrics in Prometheus's text format.
func (s *Server) writeMetrics(x *exchange) error {
	promhttp.HandlerFor(s.metrics.registry, promhttp.HandlerOpts{}).ServeHTTP(x.c.Writer, x.c.Request)
	return nil
}
