package hardware

import (
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/klauspost/cpuid/v2"
	"github.com/shirou/gopsutil/v3/cpu"
)

// CPU describes the processors.
type CPU struct {
	Name     string     `json:"name"`
	Arch     string     `json:"arch"`     // GOARCH of the machine, "" when unknown
	Threads  int        `json:"threads"`  // logical processors that are online
	Cores    int        `json:"cores"`    // physical cores
	Sockets  int        `json:"sockets"`  // packages
	Features []string   `json:"features"` // those that kernels care about, sorted
	Caches   []Cache    `json:"caches"`   // of the first processor
	NUMA     []NUMANode `json:"numa"`
}

// Cache is one cache of a processor.
type Cache struct {
	Level     int    `json:"level"`
	Type      string `json:"type"` // "Data", "Instruction" or "Unified"
	SizeBytes uint64 `json:"size_bytes"`
	SharedBy  string `json:"shared_by"` // list of logical processors
}

// NUMANode is a group of processors with memory of their own.
type NUMANode struct {
	ID          int    `json:"id"`
	CPUs        string `json:"cpus"`
	MemoryBytes uint64 `json:"memory_bytes"`
}

// features are the names under which the kernel and cpuid list what kernels are written for: x86 in /proc/cpuinfo's
// "flags", arm64 in its "Features".
var features = []struct {
	flag string // in /proc/cpuinfo
	id   cpuid.FeatureID
}{
	{"avx2", cpuid.AVX2}, {"fma", cpuid.FMA3}, {"f16c", cpuid.F16C}, {"avx_vnni", cpuid.AVXVNNI},
	{"avx512f", cpuid.AVX512F}, {"avx512bw", cpuid.AVX512BW}, {"avx512vl", cpuid.AVX512VL}, {"avx512dq", cpuid.AVX512DQ},
	{"avx512_vnni", cpuid.AVX512VNNI}, {"avx512_bf16", cpuid.AVX512BF16}, {"avx512_vbmi", cpuid.AVX512VBMI},
	{"amx_int8", cpuid.AMXINT8}, {"amx_bf16", cpuid.AMXBF16},
	{"asimd", cpuid.ASIMD}, {"asimddp", cpuid.ASIMDDP}, {"asimdhp", cpuid.ASIMDHP}, {"i8mm", cpuid.I8MM}, {"sve", cpuid.SVE},
}

// cpu surveys the processors. Fields missing from the files are taken from gopsutil, which knows other systems.
func (p *prober) cpu() CPU {
	c := CPU{Arch: p.arch(), Features: []string{}, Caches: []Cache{}, NUMA: []NUMANode{}}
	p.topology(&c)
	ctx := p.context()
	if infos, err := cpu.InfoWithContext(ctx); err == nil && len(infos) > 0 {
		c.Name = strings.TrimSpace(infos[0].ModelName)
		for _, f := range features {
			if slices.Contains(infos[0].Flags, f.flag) {
				c.Features = append(c.Features, f.flag)
			}
		}
	}
	if c.Threads == 0 {
		c.Threads, _ = cpu.CountsWithContext(ctx, true)
	}
	if c.Cores == 0 {
		c.Cores, _ = cpu.CountsWithContext(ctx, false)
	}
	if p.isHost() { // the processor itself knows better than any file
		c.Features = c.Features[:0]
		for _, f := range features {
			if cpuid.CPU.Supports(f.id) {
				c.Features = append(c.Features, f.flag)
			}
		}
		if c.Name == "" {
			c.Name = cpuid.CPU.BrandName
		}
		c.Threads = max(c.Threads, 1)
	}
	slices.Sort(c.Features)
	c.Features = slices.Compact(c.Features)
	return c
}

// arch tells a machine's architecture; of another machine's files, from the words its kernel uses in /proc/cpuinfo.
func (p *prober) arch() string {
	if p.isHost() {
		return runtime.GOARCH
	}
	switch info := p.text("proc/cpuinfo"); {
	case strings.Contains(info, "CPU implementer"):
		return "arm64"
	case strings.Contains(info, "vendor_id"):
		return "amd64"
	}
	return ""
}

// topology counts cores and sockets, and reads caches and NUMA nodes (Linux, Documentation/admin-guide/cputopology.rst).
func (p *prober) topology(c *CPU) {
	const system = "sys/devices/system/"
	online := parseList(p.text(system + "cpu/online"))
	cores, sockets := map[string]bool{}, map[string]bool{}
	for _, i := range online {
		folder := fmt.Sprintf("%scpu/cpu%d/topology/", system, i)
		socket, core := p.text(folder+"physical_package_id"), p.text(folder+"core_id")
		if core == "" {
			continue
		}
		sockets[socket] = true
		cores[socket+":"+core] = true
	}
	c.Threads, c.Cores, c.Sockets = len(online), len(cores), len(sockets)
	for _, name := range p.names(system + "cpu/cpu0/cache") {
		if !strings.HasPrefix(name, "index") {
			continue
		}
		folder := system + "cpu/cpu0/cache/" + name + "/"
		c.Caches = append(c.Caches, Cache{
			Level: int(p.number(folder + "level")), Type: p.text(folder + "type"),
			SizeBytes: parseSize(p.text(folder + "size")), SharedBy: p.text(folder + "shared_cpu_list"),
		})
	}
	for _, id := range parseList(p.text(system + "node/online")) {
		folder := fmt.Sprintf("%snode/node%d/", system, id)
		c.NUMA = append(c.NUMA, NUMANode{ID: id, CPUs: p.text(folder + "cpulist"), MemoryBytes: p.nodeMemory(folder + "meminfo")})
	}
}

// nodeMemory reads a line such as "Node 0 MemTotal:  24682496 kB".
func (p *prober) nodeMemory(path string) uint64 {
	for line := range strings.SplitSeq(p.text(path), "\n") {
		if _, rest, ok := strings.Cut(line, "MemTotal:"); ok {
			if fields := strings.Fields(rest); len(fields) > 0 {
				kib, _ := strconv.ParseUint(fields[0], 10, 64)
				return kib << 10
			}
		}
	}
	return 0
}

// parseSize reads "32K" or "16M".
func parseSize(text string) uint64 {
	unit := uint64(1)
	switch {
	case strings.HasSuffix(text, "K"):
		unit = 1 << 10
	case strings.HasSuffix(text, "M"):
		unit = 1 << 20
	}
	v, _ := strconv.ParseUint(strings.TrimRight(text, "KM"), 10, 64)
	return v * unit
}
