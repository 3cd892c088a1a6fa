// Command gen writes the kernels of hardware/cpu that are in assembly, and their Go declarations. It runs in that
// folder:
//
//	go run ./gen
//
// A kernel is written once, as a function that emits instructions for an instruction set and a number of rows; the
// loop over instruction sets and rows is here. So all row counts of a kernel share one order of arithmetic, which is
// what makes a row's bits independent of the rows beside it.
package main

import (
	"fmt"
	"maps"
	"os"
)

func main() {
	for name, text := range generate() {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			fmt.Fprintln(os.Stderr, "gen:", err)
			os.Exit(1)
		}
	}
}

// generate returns the texts of all files by their names.
func generate() map[string]string {
	var s stubs
	files := []*file{}
	for _, set := range []isa{avx2, avx512} {
		files = append(files, linearQ8(&s, set), linearQ4(&s, set), linearQ4K(&s, set), linearQ5K(&s, set), linearQ6K(&s, set), gemm(&s, set))
	}
	for _, set := range []isa{avxvnni, avx512vnni} {
		files = append(files, linearQ8(&s, set), linearQ4(&s, set), linearQ4K(&s, set), linearQ5K(&s, set), linearQ6K(&s, set))
	}
	files = append(files, linearBF16(&s, avx512bf16), prepare(&s), vectors(&s))
	var peak stubs
	for _, set := range []isa{avx2, avxvnni, avx512, avx512vnni, avx512bf16} {
		files = append(files, peaks(&peak, set))
	}
	var unpacked stubs
	files = append(files, linearQ5K(&unpacked, avx2Expanded), linearQ6K(&unpacked, avx2Expanded), expanders(&unpacked))
	var beside stubs
	files = append(files, linearQ8(&beside, avx2Beside), linearQ4(&beside, avx2Beside))
	var short, long stubs
	for _, set := range []isa{avx2, avxvnni, avx512, avx512vnni} {
		for _, format := range shortFormats() {
			files = append(files, linearShort(&short, set, format))
		}
		for _, format := range runsFormats() {
			files = append(files, linearRuns(&long, set, format))
		}
	}
	for _, format := range expandedShorts() {
		files = append(files, linearShort(&short, avx2Expanded, format))
	}
	for _, format := range expandedRuns() {
		files = append(files, linearRuns(&long, avx2Expanded, format))
	}
	files = append(files, prepareShort(&short), shortExpanders(&short))
	var tile stubs
	files = append(files, tiles(&tile, avx2), tiles(&tile, avx512), cache(&tile))
	var latent stubs
	files = append(files, latents(&latent, avx2), latents(&latent, avx512))
	texts := map[string]string{
		"kernels_amd64.go": s.text(), "kernels_short_amd64.go": short.text(), "kernels_runs_amd64.go": long.text(), "kernels_tile_amd64.go": tile.text(),
		"kernels_latents_amd64.go": latent.text(),
		"kernels_peak_amd64.go":    peak.text(), "kernels_expanded_amd64.go": unpacked.text(),
		"kernels_beside_amd64.go": beside.text(),
	}
	for _, f := range files {
		texts[f.name] = f.text()
	}
	maps.Copy(texts, generateARM64())
	return texts
}
