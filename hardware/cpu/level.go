package cpu

import (
	"fmt"
	"slices"
	"strings"

	"hearth/hardware"
	"hearth/hardware/quant"
)

// level is an instruction set for which there are kernels.
type level struct {
	name  string
	open  func() *kernels
	lacks string // what this machine would need to run it; "": it does
}

// levels lists all levels of the architecture, best first. The last one is "go", which runs everywhere. It asks the
// machine what it can do, so it is called once, when a device opens.
func levels() []level { return append(assemblyLevels(), level{name: "go", open: goKernels}) }

// selectKernels returns the kernels of a level, of the best one for "", and what became of every level.
func selectKernels(isa string) (*kernels, []hardware.Level, error) {
	return chooseLevel(isa, levels())
}

// chooseLevel checks the kernels that it returns. A level that fails is passed over, or an error when it was named.
func chooseLevel(isa string, all []level) (*kernels, []hardware.Level, error) {
	var chosen *kernels
	report := make([]hardware.Level, len(all))
	for i, l := range all {
		report[i] = hardware.Level{Name: l.name}
		r := &report[i]
		switch {
		case l.lacks != "":
			r.Reason = "the processor lacks " + l.lacks
		case chosen == nil && (isa == "" || isa == l.name):
			k := l.open().complete()
			if err := checkKernels(k); err != nil {
				r.Reason, r.Faulty = fmt.Sprintf("its kernels get products wrong here: %v", err), true
				continue
			}
			chosen = k
		}
	}
	if chosen == nil {
		return nil, report, refuseLevel(isa, report)
	}
	return chosen, report, nil
}

// refuseLevel says why a level is not to be had, and which are.
func refuseLevel(isa string, report []hardware.Level) error {
	var reason string
	var available []string
	for _, l := range report {
		if l.Name == isa && l.Reason != "" {
			reason = ": " + l.Reason + ";"
		}
		if l.Reason == "" {
			available = append(available, l.Name)
		}
	}
	if reason == "" {
		reason = ","
	}
	return fmt.Errorf("cpu: level %q is not available%s this machine runs %s", isa, reason, strings.Join(available, ", "))
}

// goKernels is the specification of all kernels, in plain Go.
func goKernels() *kernels {
	return &kernels{
		level: "go",
		linears: slices.Concat([]*linear{
			newFloatLinear(elementF32, genericTileRows, multiplyF32Generic),
			newFloatLinear(elementF16, genericTileRows, multiplyF16Generic),
			newFloatLinear(elementBF16, genericTileRows, multiplyBF16Generic),
			newLinearQ8_0(genericTileRows, prepareQ8_0Generic, multiplyQ8_0Generic),
			newLinearQ4_0(genericTileRows, prepareQuadsGeneric(shiftQ4_0), multiplyQ4_0Generic),
			newLinearQ4_K(genericTileRows, prepareQ4_KGeneric, multiplyQ4_KGeneric),
			newLinearQ5_K(genericTileRows, prepareQ4_KGeneric, multiplyQ5_KGeneric),
			newLinearQ6_K(genericTileRows, prepareQ6_KGeneric, multiplyQ6_KGeneric),
		}, genericShortLinears(), genericRunsLinears()),
		gemmF32:      gemmF32Generic,
		gemmF16:      gemmF16Generic,
		gemmBF16:     gemmBF16Generic,
		sumSquares:   sumSquaresGeneric,
		scaleMul:     scaleMulGeneric,
		maxOf:        maxOfGeneric,
		expSum:       expSumGeneric,
		scale:        scaleGeneric,
		add:          addGeneric,
		siluMul:      siluMulGeneric,
		sigmoidMul:   sigmoidMulGeneric,
		clippedMul:   clippedMulGeneric,
		addScaled:    addScaledGeneric,
		addPositive:  addPositiveGeneric,
		mulAdd:       mulAddGeneric,
		rotateHalves: rotateHalvesGeneric,
		rotatePairs:  rotatePairsGeneric,
		halves:       halvesGeneric,
		halvesOfE4M3: halvesOfE4M3Generic,
		copyRows:     copyRowsGeneric,
		addRows:      addRows(addGeneric),

		quantizeQ8_0: quant.Q8_0.Quantize,

		scaleByHalves: scaleByHalvesGeneric,

		peaks: peaksGeneric(),
		reads: readsGeneric(),
	}
}

// genericTileRows is the tile of the plain Go linears: a few rows share the reading of the weights.
const genericTileRows = 4
