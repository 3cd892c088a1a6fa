package hardware

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/shirou/gopsutil/v3/common"
	"github.com/shirou/gopsutil/v3/mem"
)

// Machine is what a probe found: processors, memory, the limits this process runs under, and accelerators.
type Machine struct {
	CPU          CPU           `json:"cpu"`
	Memory       MachineMemory `json:"memory"`
	Limits       ProcessLimits `json:"limits"`
	Accelerators []Accelerator `json:"accelerators"`
	Instance     string        `json:"instance,omitempty"` // EC2 instance type, empty elsewhere
}

// MachineMemory is main memory, in bytes, before any limit.
type MachineMemory struct {
	TotalBytes     uint64 `json:"total_bytes"`
	AvailableBytes uint64 `json:"available_bytes"` // what programs can get without swapping
}

// ProcessLimits are what control groups leave to this process.
type ProcessLimits struct {
	CPUs           float64 `json:"cpus"`            // processors' worth of time per second, 0: no limit
	MemoryBytes    uint64  `json:"memory_bytes"`    // most memory of the group, 0: no limit
	MemoryUsed     uint64  `json:"memory_used"`     // of MemoryBytes, used by the group now, cached files left out
	CgroupVersion  int     `json:"cgroup_version"`  // 1, 2, or 0 without control groups
	UsableBytes    uint64  `json:"usable_bytes"`    // available memory within the limit
	ThreadsAdvised int     `json:"threads_advised"` // see Machine.Threads
}

// Probe surveys a machine from the files under root: "/" or empty for this one, a copy of another machine's /proc,
// /sys and /dev for tests and diagnosis. What cannot be read is left zero; nothing is opened but files, so a probe never
// wakes a device or hangs on a broken driver.
func Probe(root string) Machine {
	if root == "" {
		root = "/"
	}
	p := &prober{root: root, files: os.DirFS(root)}
	m := Machine{CPU: p.cpu(), Accelerators: p.accelerators(), Instance: p.instance()}
	if vm, err := mem.VirtualMemoryWithContext(p.context()); err == nil {
		m.Memory = MachineMemory{TotalBytes: vm.Total, AvailableBytes: vm.Available}
	}
	m.Limits = p.limits(m.Memory)
	m.Limits.ThreadsAdvised = m.Threads()
	return m
}

// Threads advises how many kernel threads to run: one per physical core, since two threads of a core share its
// arithmetic units, and no more than the control group's quota lets run at once.
func (m *Machine) Threads() int {
	threads := m.CPU.Cores
	if threads == 0 {
		threads = m.CPU.Threads
	}
	if q := m.Limits.CPUs; q > 0 {
		threads = min(threads, int(q))
	}
	return max(threads, 1)
}

// Threads is the advice of Machine.Threads for this machine, and no more than the processors this process may run on.
func Threads() int {
	m := Probe("/")
	return min(m.Threads(), runtime.NumCPU())
}

// KVBytes advises how much memory the cache of a model may take beside its weights: half of what is left of the usable
// memory, the other half staying for the weights' own pages, the rest of the process and others on the machine. It is at
// least minKVBytes, so that small machines run small models.
func (m *Machine) KVBytes(weightBytes uint64) uint64 {
	usable := m.Limits.UsableBytes
	return max((usable-min(weightBytes, usable))/2, minKVBytes)
}

// minKVBytes holds 512 positions of an 8B model in float16 (147 kB each).
const minKVBytes = 64 << 20

// prober reads one machine's files. Paths are slash-separated and relative to the root.
type prober struct {
	root  string
	files fs.FS
}

// isHost reports whether the probe looks at the machine it runs on.
func (p *prober) isHost() bool { return filepath.Clean(p.root) == "/" || runtime.GOOS == "windows" }

// context tells gopsutil where the files are.
func (p *prober) context() context.Context {
	if p.isHost() {
		return context.Background()
	}
	return context.WithValue(context.Background(), common.EnvKey, common.EnvMap{
		common.HostProcEnvKey: filepath.Join(p.root, "proc"),
		common.HostSysEnvKey:  filepath.Join(p.root, "sys"),
		common.HostEtcEnvKey:  filepath.Join(p.root, "etc"),
		common.HostRootEnvKey: p.root,
	})
}

// text returns a file's trimmed contents, empty when it cannot be read.
func (p *prober) text(path string) string {
	data, err := fs.ReadFile(p.files, path)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(strings.TrimRight(string(data), "\x00"))
}

// number returns a file's decimal or 0x-prefixed number, 0 when there is none.
func (p *prober) number(path string) uint64 {
	v, err := strconv.ParseUint(p.text(path), 0, 64)
	if err != nil {
		return 0
	}
	return v
}

func (p *prober) exists(path string) bool {
	_, err := fs.Stat(p.files, path)
	return err == nil
}

// names lists a folder; entries that end in numbers come in their numeric order.
func (p *prober) names(path string) []string {
	entries, err := fs.ReadDir(p.files, path)
	if err != nil {
		return nil
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	slices.SortStableFunc(names, func(a, b string) int {
		na, errA := strconv.Atoi(strings.TrimLeft(a, "abcdefghijklmnopqrstuvwxyz_"))
		nb, errB := strconv.Atoi(strings.TrimLeft(b, "abcdefghijklmnopqrstuvwxyz_"))
		if errA != nil || errB != nil {
			return strings.Compare(a, b)
		}
		return na - nb
	})
	return names
}

// parseList expands the kernel's list format, "0-3,8".
func parseList(list string) []int {
	var members []int
	for field := range strings.SplitSeq(list, ",") {
		first, last, isRange := strings.Cut(strings.TrimSpace(field), "-")
		lo, err := strconv.Atoi(first)
		if err != nil {
			continue
		}
		hi := lo
		if isRange {
			if hi, err = strconv.Atoi(last); err != nil {
				continue
			}
		}
		if lo < 0 || hi > maxListed {
			continue
		}
		for ; lo <= hi; lo++ {
			members = append(members, lo)
		}
	}
	return members
}

// maxListed bounds the numbers in a list: no machine has more processors or devices.
const maxListed = 1 << 16

// instance returns the EC2 instance type, which Nitro machines give as the product's name.
func (p *prober) instance() string {
	if strings.Contains(p.text("sys/class/dmi/id/sys_vendor"), "Amazon EC2") {
		return p.text("sys/class/dmi/id/product_name")
	}
	return ""
}

// String is a short description, for logs.
func (m *Machine) String() string {
	return fmt.Sprintf("%s, %d cores, %d accelerators", m.CPU.Name, m.CPU.Cores, len(m.Accelerators))
}
