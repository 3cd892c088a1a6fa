package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestEncodings compares with bytes put together by hand from the manual's tables.
func TestEncodings(t *testing.T) {
	for _, c := range []struct {
		got  instruction
		want []byte
	}{
		{vexDotBytes(2, 1, 0), []byte{0xc4, 0xe2, 0x75, 0x50, 0xc2}},
		{vexDotBytes(10, 9, 8), []byte{0xc4, 0x42, 0x35, 0x50, 0xc2}},
		{vexDotBytes(3, 15, 12), []byte{0xc4, 0x62, 0x05, 0x50, 0xe3}},
		{evexDotHalves(halves{register: 2}, 1, 0), []byte{0x62, 0xf2, 0x76, 0x48, 0x52, 0xc2}},
		{evexDotHalves(halves{register: 26}, 17, 8), []byte{0x62, 0x12, 0x76, 0x40, 0x52, 0xc2}},
		{evexDotHalves(halves{base: "BX", offset: 0}, 1, 0), []byte{0x62, 0xf2, 0x76, 0x58, 0x52, 0x03}},
		{evexDotHalves(halves{base: "CX", offset: 64}, 25, 13), []byte{0x62, 0x72, 0x36, 0x50, 0x52, 0x69, 0x10}},
		{evexDotHalves(halves{base: "BX", offset: 512}, 31, 23), []byte{0x62, 0xe2, 0x06, 0x50, 0x52, 0xbb, 0x00, 0x02, 0x00, 0x00}},
	} {
		if !bytes.Equal(c.got.code, c.want) {
			t.Errorf("%s is % x, want % x", c.got.text, c.got.code, c.want)
		}
	}
}

// TestEncodingsDisassemble has GNU objdump read every form back, with all registers and offsets of all sizes.
func TestEncodingsDisassemble(t *testing.T) {
	objdump, err := exec.LookPath("objdump")
	if err != nil {
		t.Skip("there is no objdump (binutils) to read instructions back")
	}
	var all []instruction
	for i := range 16 {
		all = append(all, vexDotBytes(i, (i+5)%16, (i+11)%16))
	}
	for i, base := range []string{"AX", "CX", "DX", "BX", "SI", "DI"} {
		for w := range 32 {
			offset := []int{0, 4, 508, 512, -512, -516, 1 << 20, 6}[(w+i)%8]
			all = append(all, evexDotHalves(halves{base: base, offset: offset}, w, (w*7+i)%32))
		}
	}
	for x := range 32 {
		all = append(all, evexDotHalves(halves{register: x}, (x*5+3)%32, (x*11+7)%32))
	}
	var code []byte
	for _, i := range all {
		code = append(code, i.code...)
	}
	name := filepath.Join(t.TempDir(), "code")
	if err := os.WriteFile(name, code, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(objdump, "-D", "-b", "binary", "-m", "i386:x86-64", "--no-show-raw-insn", name).Output()
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, match := range regexp.MustCompile(`(?m)^ +[0-9a-f]+:\t(.*\S)`).FindAllStringSubmatch(string(out), -1) {
		lines = append(lines, match[1])
	}
	if len(lines) != len(all) {
		t.Fatalf("%d instructions were read as %d:\n%s", len(all), len(lines), out)
	}
	for i, got := range lines {
		if want := disassembled(all[i]); got != want {
			t.Errorf("%s reads back as %q, want %q", all[i].text, got, want)
		}
	}
}

// disassembled is an instruction as objdump writes it: the order of operands is Go's.
func disassembled(i instruction) string {
	text := strings.ToLower(i.text)
	operands := regexp.MustCompile(`(-?\d*)\(([a-z]+)\)`).ReplaceAllStringFunc(text, func(address string) string {
		var offset int
		var base string
		if _, err := fmt.Sscanf(address, "%d(%2s)", &offset, &base); err != nil {
			return "(%r" + address[1:3] + "){1to16}"
		}
		sign := ""
		if offset < 0 {
			sign, offset = "-", -offset
		}
		return fmt.Sprintf("%s%#x(%%r%s){1to16}", sign, offset, base)
	})
	operands = regexp.MustCompile(`\b([yz])(\d+)`).ReplaceAllString(operands, "%${1}mm$2")
	operands = strings.ReplaceAll(operands, ", ", ",")
	if strings.HasPrefix(operands, "vpdpbusd") {
		return "{vex} " + operands
	}
	return strings.Replace(operands, ".bcst", "", 1)
}
