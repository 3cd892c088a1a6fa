package gorgonia_test

import (
	"testing"

	"hearth/hardware"
	"hearth/hardware/devicetest"
	"hearth/hardware/gorgonia"
)

func TestDevice(t *testing.T) {
	open := func(t testing.TB) hardware.Device {
		t.Helper()
		d, err := gorgonia.Open(gorgonia.Options{})
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	devicetest.Run(t, open, devicetest.Config{Allocates: true, Plain: true})
}
