package hardware

import (
	"path"
	"slices"
	"strconv"
	"strings"
)

// limits reads what the control groups of this process leave to it. Every ancestor may set a tighter limit, and the
// controllers of version 1 and the single tree of version 2 may exist side by side
// (Linux, Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/).
func (p *prober) limits(memory MachineMemory) ProcessLimits {
	l := ProcessLimits{UsableBytes: memory.AvailableBytes}
	for line := range strings.SplitSeq(p.text("proc/self/cgroup"), "\n") {
		fields := strings.SplitN(line, ":", 3) // hierarchy, controllers, path
		if len(fields) != 3 {
			continue
		}
		controllers := strings.Split(fields[1], ",")
		// Inside a container the path may be the host's while only its end is mounted, so a walk ends at the mount's root.
		for group := path.Clean("/" + fields[2]); ; group = path.Dir(group) {
			switch {
			case fields[1] == "":
				p.limitsV2(&l, memory, path.Join("sys/fs/cgroup", group))
			case slices.Contains(controllers, "memory"):
				folder := path.Join("sys/fs/cgroup/memory", group)
				l.memory(memory, p.number(folder+"/memory.limit_in_bytes"), p.held(folder, "usage_in_bytes", "total_"), 1)
			case slices.Contains(controllers, "cpu"):
				p.quotaV1(&l, group)
			}
			if group == "/" {
				break
			}
		}
	}
	return l
}

func (p *prober) limitsV2(l *ProcessLimits, memory MachineMemory, folder string) {
	l.memory(memory, p.number(folder+"/memory.max"), p.held(folder, "current", ""), 2)
	if quota := strings.Fields(p.text(folder + "/cpu.max")); len(quota) == 2 && quota[0] != "max" {
		l.quota(quota[0], quota[1], 2)
	}
}

// held is the memory of a group that the kernel cannot take back at once: its usage without the pages of files, which
// would otherwise count against a model as soon as its file was copied or read.
func (p *prober) held(folder, usage, prefix string) uint64 {
	stat := p.properties(folder + "/memory.stat")
	used := p.number(folder + "/memory." + usage)
	return used - min(used, stat[prefix+"inactive_file"]+stat[prefix+"active_file"])
}

// quotaV1 looks where distributions mount the controller: alone, or together with cpuacct.
func (p *prober) quotaV1(l *ProcessLimits, group string) {
	for _, mount := range []string{"cpu", "cpu,cpuacct"} {
		folder := path.Join("sys/fs/cgroup", mount, group)
		l.quota(p.text(folder+"/cpu.cfs_quota_us"), p.text(folder+"/cpu.cfs_period_us"), 1)
	}
}

// memory tightens the memory limit. Version 1 writes "no limit" as a number beyond any memory.
func (l *ProcessLimits) memory(memory MachineMemory, most, used uint64, version int) {
	if most == 0 || memory.TotalBytes > 0 && most >= memory.TotalBytes {
		return
	}
	l.CgroupVersion = max(l.CgroupVersion, version)
	if l.MemoryBytes == 0 || most < l.MemoryBytes {
		l.MemoryBytes, l.MemoryUsed = most, used
	}
	l.UsableBytes = min(l.UsableBytes, most-min(used, most))
}

// quota tightens the processor limit: microseconds of processor time per period.
func (l *ProcessLimits) quota(quota, period string, version int) {
	q, errQ := strconv.ParseFloat(quota, 64)
	t, errT := strconv.ParseFloat(period, 64)
	if errQ != nil || errT != nil || !(q > 0) || !(t > 0) {
		return
	}
	l.CgroupVersion = max(l.CgroupVersion, version)
	if l.CPUs == 0 || q/t < l.CPUs {
		l.CPUs = q / t
	}
}
