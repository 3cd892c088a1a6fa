package hardware

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// tree is a machine's files by path.
type tree map[string]string

// write lays the files under a new folder and returns it.
func (tr tree) write(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	for path, text := range tr {
		full := filepath.Join(root, filepath.FromSlash(path))
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, []byte(text+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// pci adds a device to the bus.
func (tr tree) pci(address, vendor, device, class, numa string) {
	folder := "sys/bus/pci/devices/" + address + "/"
	tr[folder+"vendor"], tr[folder+"device"] = "0x"+vendor, "0x"+device
	tr[folder+"class"], tr[folder+"numa_node"] = class, numa
}

// server is a machine with 16 threads on 8 cores and 24 GB.
func server() tree {
	tr := tree{
		"proc/meminfo":                          "MemTotal:       24682496 kB\nMemFree: 20000000 kB\nMemAvailable:   23000000 kB",
		"proc/cpuinfo":                          "processor\t: 0\nvendor_id\t: AuthenticAMD\nmodel name\t: Test Processor\nflags\t\t: fpu avx2 fma f16c avx512f avx512_vnni",
		"sys/devices/system/cpu/online":         "0-15",
		"sys/devices/system/node/online":        "0",
		"sys/devices/system/node/node0/cpulist": "0-15",
		"sys/devices/system/node/node0/meminfo": "Node 0 MemTotal:       24682496 kB",
	}
	for i := range 16 {
		folder := fmt.Sprintf("sys/devices/system/cpu/cpu%d/topology/", i)
		tr[folder+"physical_package_id"], tr[folder+"core_id"] = "0", fmt.Sprint(i%8)
	}
	cache := "sys/devices/system/cpu/cpu0/cache/index2/"
	tr[cache+"level"], tr[cache+"type"], tr[cache+"size"], tr[cache+"shared_cpu_list"] = "2", "Unified", "1024K", "0,8"
	return tr
}

func TestProbeProcessorAndMemory(t *testing.T) {
	m := Probe(server().write(t))
	if m.CPU.Name != "Test Processor" || m.CPU.Arch != "amd64" || m.CPU.Threads != 16 || m.CPU.Cores != 8 || m.CPU.Sockets != 1 {
		t.Errorf("processor is %+v", m.CPU)
	}
	if want := []string{"avx2", "avx512_vnni", "avx512f", "f16c", "fma"}; !slices.Equal(m.CPU.Features, want) {
		t.Errorf("features are %v, want %v", m.CPU.Features, want)
	}
	if len(m.CPU.Caches) != 1 || m.CPU.Caches[0] != (Cache{2, "Unified", 1 << 20, "0,8"}) {
		t.Errorf("caches are %+v", m.CPU.Caches)
	}
	if len(m.CPU.NUMA) != 1 || m.CPU.NUMA[0] != (NUMANode{0, "0-15", 24682496 << 10}) {
		t.Errorf("NUMA nodes are %+v", m.CPU.NUMA)
	}
	if m.Memory.TotalBytes != 24682496<<10 || m.Memory.AvailableBytes != 23000000<<10 {
		t.Errorf("memory is %+v", m.Memory)
	}
	if m.Limits.UsableBytes != m.Memory.AvailableBytes || m.Limits.CPUs != 0 || m.Limits.MemoryBytes != 0 || m.Threads() != 8 {
		t.Errorf("limits are %+v, threads %d", m.Limits, m.Threads())
	}
	if m.Accelerators == nil || len(m.Accelerators) != 0 {
		t.Errorf("accelerators are %#v, want an empty list", m.Accelerators)
	}
}

func TestProbeLimits(t *testing.T) {
	for name, files := range map[string]tree{
		"v2, from an ancestor": {
			"proc/self/cgroup": "0::/a/b", "sys/fs/cgroup/a/memory.max": "8589934592", "sys/fs/cgroup/a/memory.current": "1073741824",
			"sys/fs/cgroup/a/memory.stat":  "anon 1073741824\nfile 0\ninactive_file 0\nactive_file 0",
			"sys/fs/cgroup/a/b/memory.max": "max", "sys/fs/cgroup/a/b/cpu.max": "350000 100000",
		},
		"v1": {
			"proc/self/cgroup": "4:memory:/x\n1:cpu,cpuacct:/x",
			"sys/fs/cgroup/memory/x/memory.limit_in_bytes":  "8589934592",
			"sys/fs/cgroup/memory/x/memory.usage_in_bytes":  "4294967296",
			"sys/fs/cgroup/memory/x/memory.stat":            "cache 3221225472\ninactive_file 1\ntotal_inactive_file 2147483648\ntotal_active_file 1073741824",
			"sys/fs/cgroup/memory/memory.limit_in_bytes":    "9223372036854771712", // no limit
			"sys/fs/cgroup/cpu,cpuacct/x/cpu.cfs_quota_us":  "350000",
			"sys/fs/cgroup/cpu,cpuacct/x/cpu.cfs_period_us": "100000",
			"sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us":    "-1",
			"sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us":   "100000",
		},
		"in a container, which sees its group as the root": {
			"proc/self/cgroup": "0::/docker/0123", "sys/fs/cgroup/memory.max": "8589934592", "sys/fs/cgroup/memory.current": "1073741824",
			"sys/fs/cgroup/cpu.max": "350000 100000",
		},
		"full of cached files": {
			"proc/self/cgroup": "0::/", "sys/fs/cgroup/memory.max": "8589934592", "sys/fs/cgroup/memory.current": "8589934592",
			"sys/fs/cgroup/memory.stat": "anon 1000000000\ninactive_file 7000000000\nactive_file 516192768\nshmem 4096", "sys/fs/cgroup/cpu.max": "350000 100000",
		},
	} {
		t.Run(name, func(t *testing.T) {
			tr := server()
			for path, text := range files {
				tr[path] = text
			}
			m := Probe(tr.write(t))
			if l := m.Limits; l.MemoryBytes != 8<<30 || l.MemoryUsed != 1<<30 || l.UsableBytes != 7<<30 || l.CPUs != 3.5 || m.Threads() != 3 || l.ThreadsAdvised != 3 {
				t.Errorf("limits are %+v, threads %d", l, m.Threads())
			}
			if got := m.KVBytes(1 << 30); got != 3<<30 {
				t.Errorf("KVBytes(1 GiB) = %d, want half of the 6 GiB left", got)
			}
			if got := m.KVBytes(100 << 30); got != minKVBytes {
				t.Errorf("KVBytes(100 GiB) = %d, want the least", got)
			}
		})
	}
}

func TestProbeNeuron(t *testing.T) {
	tr := server()
	tr["sys/class/dmi/id/sys_vendor"], tr["sys/class/dmi/id/product_name"] = "Amazon EC2", "trn2.48xlarge"
	tr["sys/module/neuron/version"] = "2.22.2.0"
	for i := range 16 {
		tr.pci(fmt.Sprintf("0000:%02x:00.0", 0x10+i), "1d0f", "7364", "0x088000", "1")
		folder := fmt.Sprintf("sys/devices/virtual/neuron_device/neuron%d/", i)
		tr[folder+"core_count"], tr[folder+"connected_devices"] = "8", "12, 3, 4, 1"
		tr[folder+"neuron_core0/info/architecture/arch_type"] = "NCv3"
		tr[folder+"neuron_core0/stats/memory_usage/device_mem/tensors/total"] = "20971520"
		tr[folder+"neuron_core1/stats/memory_usage/device_mem/constants/total"] = "193986816"
		tr[folder+"neuron_core1/stats/memory_usage/device_mem/total"] = "193986816"
		if i != 3 {
			tr[fmt.Sprintf("dev/neuron%d", i)] = ""
		}
	}
	m := Probe(tr.write(t))
	if len(m.Accelerators) != 16 || m.Instance != "trn2.48xlarge" {
		t.Fatalf("found %d accelerators on %q", len(m.Accelerators), m.Instance)
	}
	a := m.Accelerators[15]
	if a.Kind != "neuron" || a.Name != "Trainium2" || a.Index != 15 || a.Cores != 8 || a.MemoryBytes != 96<<30 || a.Driver != "2.22.2.0" ||
		a.MemoryUsed != 20971520+193986816 || !a.Usable || a.Arch != "NCv3" || !slices.Equal(a.Connected, []int{12, 3, 4, 1}) {
		t.Errorf("accelerator 15 is %+v", a)
	}
	if a := m.Accelerators[3]; a.Usable || !strings.Contains(a.Reason, "/dev/neuron3") {
		t.Errorf("accelerator 3, without a device node, is %+v", a)
	}
}

// TestProbeNeuronAsUser reads a machine whose core_count only root may read: cores and memory come from the table.
func TestProbeNeuronAsUser(t *testing.T) {
	tr := server()
	tr["dev/neuron0"] = ""
	tr.pci("0000:00:1f.0", "1d0f", "7264", "0x088000", "-1")
	tr.pci("0000:00:05.0", "1d0f", "ec20", "0x020000", "-1") // Amazon's network adapter is no accelerator
	m := Probe(tr.write(t))
	if len(m.Accelerators) != 1 || m.Accelerators[0].Cores != 2 || m.Accelerators[0].MemoryBytes != 32<<30 || !m.Accelerators[0].Usable {
		t.Errorf("accelerators are %+v", m.Accelerators)
	}
}

func TestProbeNVIDIA(t *testing.T) {
	tr := server()
	tr["dev/nvidiactl"] = ""
	tr["proc/driver/nvidia/version"] = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024\nGCC version: 12"
	tr["proc/driver/nvidia/gpus/0000:19:00.0/information"] = "Model: \t\t NVIDIA H200\nIRQ:   \t\t 90\nGPU UUID: \t GPU-x\nGPU Excluded:\t No"
	tr["proc/driver/nvidia/gpus/0000:1a:00.0/information"] = "Model: \t\t NVIDIA H200\nGPU Excluded:\t Yes"
	tr.pci("0000:19:00.0", "10de", "2335", "0x030200", "0")
	tr.pci("0000:1a:00.0", "10de", "2335", "0x030200", "0")
	tr.pci("0000:3b:00.0", "10de", "2335", "0x030200", "1")
	tr["sys/bus/pci/devices/0000:3b:00.0/uevent"] = "DRIVER=vfio-pci\nPCI_CLASS=30200"
	a := Probe(tr.write(t)).Accelerators
	if len(a) != 3 || a[0].Name != "NVIDIA H200" || !a[0].Usable || a[0].PCIID != "10de:2335" || a[0].Driver != "550.54.15" {
		t.Fatalf("accelerators are %+v", a)
	}
	if a[1].Usable || a[1].Reason == "" || a[2].Usable || !strings.Contains(a[2].Reason, "vfio-pci") || a[2].NUMANode != 1 || a[2].Index != 2 {
		t.Errorf("accelerators are %+v", a)
	}
	delete(tr, "dev/nvidiactl")
	if a := Probe(tr.write(t)).Accelerators; a[0].Usable || !strings.Contains(a[0].Reason, "/dev/nvidiactl") {
		t.Errorf("without its control node, the accelerator is %+v", a[0])
	}
}

func TestProbeAMD(t *testing.T) {
	tr := server()
	tr["dev/kfd"] = ""
	nodes := "sys/class/kfd/kfd/topology/nodes/"
	tr[nodes+"0/properties"] = "cpu_cores_count 96\ngfx_target_version 0"
	for i, node := range []string{"10", "2"} { // the nodes' order is numeric
		tr[nodes+node+"/properties"] = fmt.Sprintf("simd_count 1216\nsimd_per_cu 4\ngfx_target_version 90402\nvendor_id 4098\ndevice_id 29857\nlocation_id %d\ndomain 0\ndrm_render_minor %d", 1280*(i+1), 128+i)
	}
	tr["sys/class/drm/renderD129/device/mem_info_vram_total"] = "206141652992"
	tr["sys/class/drm/renderD129/device/mem_info_vram_used"] = "297271296"
	tr.pci("0000:0a:00.0", "1002", "74a1", "0x038000", "1")
	tr.pci("0000:77:00.0", "1002", "164e", "0x030000", "-1")
	a := Probe(tr.write(t)).Accelerators
	if len(a) != 3 || a[0].Arch != "gfx942" || a[0].PCI != "0000:0a:00.0" || a[0].PCIID != "1002:74a1" || a[0].MemoryBytes != 206141652992 ||
		a[0].MemoryUsed != 297271296 || !a[0].Usable || a[0].Cores != 304 || a[0].NUMANode != 1 {
		t.Fatalf("accelerators are %+v", a)
	}
	if a[1].PCI != "0000:05:00.0" || a[2].Usable || a[2].Reason == "" {
		t.Errorf("accelerators are %+v", a)
	}
}

func TestProbeIntel(t *testing.T) {
	tr := server()
	tr.pci("0000:03:00.0", "8086", "56a0", "0x030000", "0")
	tr["sys/bus/pci/devices/0000:03:00.0/drm/card0/dev"] = "226:0"
	tr["sys/bus/pci/devices/0000:03:00.0/uevent"] = "DRIVER=xe"
	tr["sys/bus/pci/devices/0000:03:00.0/tile0/vram_total_bytes"] = "0x3f6000000"
	tr.pci("0000:04:00.0", "8086", "56a0", "0x030000", "0")
	tr.pci("0000:00:1f.0", "8086", "7a04", "0x060100", "0")
	a := Probe(tr.write(t)).Accelerators
	if len(a) != 2 || !a[0].Usable || a[0].Driver != "xe" || a[0].MemoryBytes != 0x3f6000000 || a[1].Usable || a[1].Reason == "" {
		t.Errorf("accelerators are %+v", a)
	}
}

// TestProbeNothing reads an empty tree: no error, nothing found.
func TestProbeNothing(t *testing.T) {
	m := Probe(t.TempDir())
	if len(m.Accelerators) != 0 || m.Threads() != 1 || m.Limits.UsableBytes != 0 {
		t.Errorf("an empty tree is %+v", m)
	}
}

func TestProbeHost(t *testing.T) {
	m := Probe("/")
	if m.CPU.Threads < 1 || m.Memory.TotalBytes == 0 || m.Limits.UsableBytes == 0 || m.Limits.UsableBytes > m.Memory.TotalBytes || Threads() < 1 {
		t.Errorf("this machine is %+v", m)
	}
}

func TestParseList(t *testing.T) {
	for text, want := range map[string][]int{"": nil, "3": {3}, "0-2,5": {0, 1, 2, 5}, "12, 3": {12, 3}, "x,1": {1}, "0-99999999": nil, "5-3": nil,
		"9223372036854775800-9223372036854775807": nil, "7--9223372036854775808,4": {4}} {
		if got := parseList(text); !slices.Equal(got, want) {
			t.Errorf("parseList(%q) = %v, want %v", text, got, want)
		}
	}
}
