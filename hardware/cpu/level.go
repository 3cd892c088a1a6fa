package cpu

import (
	"fmt"
	"slices"
	"strings"

	"hearth/hardware/quant"
)

// level is an instruction set for which there are kernels.
type level struct {
	name string
	open func() *kernels
}

// availableLevels names the levels that this machine runs, best first. The last one is "go", which runs everywhere.
func availableLevels() []string {
	var names []string
	for _, l := range machineLevels() {
		names = append(names, l.name)
	}
	return names
}

// selectKernels returns the kernels of a level, of the best one for "". It asks the machine what it can do, so it is
// called once, when a device opens.
func selectKernels(isa string) (*kernels, error) {
	levels := machineLevels()
	if isa == "" {
		return levels[0].open().complete(), nil
	}
	i := slices.IndexFunc(levels, func(l level) bool { return l.name == isa })
	if i < 0 {
		return nil, fmt.Errorf("cpu: level %q is not available, this machine runs %s", isa, strings.Join(availableLevels(), ", "))
	}
	return levels[i].open().complete(), nil
}

// machineLevels lists what this machine runs, best first.
func machineLevels() []level {
	return append(assemblyLevels(), level{"go", goKernels})
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
			newLinearQ4_0(genericTileRows, prepareQ4_0Generic, multiplyQ4_0Generic),
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
		addScaled:    addScaledGeneric,
		rotateHalves: rotateHalvesGeneric,
		rotatePairs:  rotatePairsGeneric,
		halves:       halvesGeneric,

		scaleByHalves: scaleByHalvesGeneric,
		quantizeQ8_0:  quant.Q8_0.Quantize,
		peaks:         peaksGeneric(),
		reads:         readsGeneric(),
	}
}

// genericTileRows is the tile of the plain Go linears: a few rows share the reading of the weights.
const genericTileRows = 4
