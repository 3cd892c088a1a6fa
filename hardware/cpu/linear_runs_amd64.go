//go:build !purego

package cpu

// runsLinears are the linears of formats with runs, of which there are the kernels in the order of runsFormats.
func runsLinears(kernels ...[]panelKernel) []*linear {
	var linears []*linear
	for i, f := range runsFormats() {
		linears = append(linears, f.linear(len(kernels[i]), prepareQ6_K, nil).withKernels(kernels[i], longRuns))
	}
	return linears
}

func runsLinearsAVX2() []*linear {
	return runsLinears(linearIQ4_XSAVX2(), linearQ2_KAVX2(), linearQ3_KAVX2())
}

func runsLinearsAVXVNNI() []*linear {
	return runsLinears(linearIQ4_XSAVXVNNI(), linearQ2_KAVXVNNI(), linearQ3_KAVXVNNI())
}

func runsLinearsAVX512() []*linear {
	return runsLinears(linearIQ4_XSAVX512(), linearQ2_KAVX512(), linearQ3_KAVX512())
}

func runsLinearsVNNI() []*linear {
	return runsLinears(linearIQ4_XSVNNI(), linearQ2_KVNNI(), linearQ3_KVNNI())
}
