package inproc

import (
	"fmt"
	"slices"

	"hearth/hardware"
)

// bounds collects what the machine did at best during a measure.
type bounds struct {
	meter   hardware.Meter
	bytes   int // of the meter
	samples []hardware.Roofline
}

// openBounds returns an error when the device measures nothing. The memory that bandwidth is read from is less than
// wanted where there is little.
func openBounds(device hardware.Device, bytes int) (*bounds, error) {
	if err := canMeasure(device); err != nil {
		return nil, err
	}
	if free := device.Info().FreeBytes; free > 0 {
		bytes = min(bytes, max(int(free/8), 64<<20))
	}
	meter, err := device.(hardware.Metered).OpenMeter(bytes)
	if err != nil {
		return nil, err
	}
	return &bounds{meter: meter, bytes: bytes}, nil
}

// canMeasure returns an error when the device cannot measure its bounds.
func canMeasure(device hardware.Device) error {
	if _, ok := device.(hardware.Metered); !ok {
		return fmt.Errorf("inproc: device %s cannot measure what the machine does at best", device.Info().Name)
	}
	return nil
}

// sample measures once.
func (b *bounds) sample() error {
	r, err := b.meter.Measure()
	b.samples = append(b.samples, r)
	return err
}

// reset forgets the samples but the last, which was taken just before what comes next.
func (b *bounds) reset() { b.samples = append(b.samples[:0], b.samples[len(b.samples)-1]) }

// median is the median of the samples, number by number.
func (b *bounds) median() hardware.Roofline {
	number := func(of func(r *hardware.Roofline) float64) float64 {
		values := make([]float64, len(b.samples))
		for i := range b.samples {
			values[i] = of(&b.samples[i])
		}
		return median(values)
	}
	r := hardware.Roofline{
		ReadBytes:       number(func(r *hardware.Roofline) float64 { return r.ReadBytes }),
		MedianReadBytes: number(func(r *hardware.Roofline) float64 { return r.MedianReadBytes }),
		Peaks:           slices.Clone(b.samples[0].Peaks),
	}
	for i := range r.Peaks {
		r.Peaks[i].Ops = number(func(r *hardware.Roofline) float64 { return r.Peaks[i].Ops })
	}
	return r
}

// median returns the middle of the values, which it sorts: of an even number the mean of both.
func median(values []float64) float64 {
	slices.Sort(values)
	n := len(values)
	return (values[(n-1)/2] + values[n/2]) / 2
}
