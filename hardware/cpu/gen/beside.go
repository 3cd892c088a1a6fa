package main

import "fmt"

// Kernels of one row multiply several panels at once, side by side, a few bytes of each in turn. Reading is what takes the
// time there, and a processor that guesses what is read next keeps more of it on the way where it follows several streams:
// measured on Zen 3, 2 to 4 of them are read a fifth faster than one. Asking for bytes in advance disturbs such guesses.
// Formats with more arithmetic to a byte, as Q4_K, gain nothing. Every column's sums are made in the order of the other
// kernels.

// besidePanels is the number of these panels: their sums fill half of the registers.
const besidePanels = 4

// placeRegisters hold the places in the panels; with one row dst has no stride, whose SI is.
var placeRegisters = [...]string{"AX", "R9", "R10", "SI"}

// besideRegisters says what the registers of these kernels hold.
func besideRegisters() []string {
	return []string{
		fmt.Sprintf("This is done for %d consecutive panels, side by side: AX, R9, R10 and SI are the places in them, and R8 says how far", besidePanels),
		"behind these their scales are. DI dst, BX tile, CX x in it, DX blocks left, R12 and R13 counters.",
	}
}

// place is the register of the place in the panel that is being written.
func (k *linear) place() string { return placeRegisters[k.panel] }

// eachPanel writes something for every panel.
func (k *linear) eachPanel(body func()) {
	for k.panel = range k.panels {
		body()
	}
	k.panel = 0
}

// advance moves all places on.
func (k *linear) advance(meaning string, bytes int) {
	k.eachPanel(func() { k.op(meaning, "ADDQ $%d, %s", bytes, k.place()) })
}

// findPanels sets the places to the starts of panels that have blocks of so many bytes.
func (k *linear) findPanels(blockBytes int) {
	k.op("bytes of a panel", "IMUL3Q $%d, DX, R12", blockBytes)
	for p := 1; p < k.panels; p++ {
		k.op("the next one", "LEAQ (%s)(R12*1), %s", placeRegisters[p-1], placeRegisters[p])
	}
}

// touch reads the lines that the places are in, so that they are met before those behind them.
func (k *linear) touch() {
	k.eachPanel(func() { k.op("meet the scales before the bytes", "MOVQ (%s), R8", k.place()) })
}

// startScales says where scales are that lie so many bytes behind the places, and nextScales how much further behind the
// next ones will. Where there is one panel, R8 points to them.
func (k *linear) startScales(meaning string, behind int) { k.op(meaning, "MOVQ $%d, R8", -behind) }

func (k *linear) nextScales(meaning string, bytes int) { k.op(meaning, "SUBQ $%d, R8", bytes) }

// scaleAt is the address of scales.
func (k *linear) scaleAt(offset int) string {
	if k.beside {
		return fmt.Sprintf("%s(R8*1)", mem(offset, k.place()))
	}
	return mem(offset, "R8")
}

// word leaves a word of row r in every column of a, for all panels.
func (k *linear) word(r, a, offset int, meaning string) {
	if k.panel == 0 {
		k.op(fmt.Sprintf(meaning, r), "VPBROADCASTD %s, %s", mem(offset, "CX"), k.v(a))
	}
}
