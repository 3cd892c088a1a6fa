#!/bin/sh
# emulate.sh runs the tests of kernels on machines that lack their instructions, in the Bochs emulator:
#
#	hardware/cpu/testdata/emulate.sh [avx512] [avx512vnni] [avxvnni] [avx512bf16]
#
# For each level (all, if none is named) it builds the package's tests into one static program, boots a stock Linux kernel
# in the emulated machine with that program as its first process, and reads the result from the serial port. The machine
# has what the level needs and as little else as may be, so that a kernel that goes beyond its level fails. A level takes
# two to five minutes of one idle core; EMULATE_SECONDS (1800) bounds it.
#
# It needs Go, and Debian or Ubuntu with debian-archive-keyring. Nothing is installed: the emulator, a boot loader, a
# program that writes CD images and a kernel come from Debian's archive and are unpacked into a cache, 300 MB at
# EMULATE_CACHE (~/.cache/hearth-emulator). The programs run with the libraries that came with them.
set -eu

limit=${EMULATE_SECONDS:-1800}
cache=${EMULATE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/hearth-emulator}
package=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
emulator=
cleanup() {
	[ -z "$emulator" ] || kill "$emulator" 2>/dev/null || true
	rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 1' INT TERM

# The oldest processor of the emulator that has a level's instructions.
machine() {
	case $1 in
	avx512) echo corei7_skylake_x ;;
	avx512vnni) echo corei7_icelake_u ;;
	avxvnni) echo arrow_lake ;;
	avx512bf16) echo sapphire_rapids ;;
	*)
		echo "emulate.sh: unknown level $1, there are avx512, avx512vnni, avxvnni and avx512bf16" >&2
		exit 2
		;;
	esac
}

# Bochs makes mistakes with some features that Linux would use and the kernels do not need. What is cleared: 321, 323
# XSAVEC and XSAVES (it reports wrong sizes), 324 XFD, 515, 516 protection keys, 298 INVPCID, 312 CLWB, 514 UMIP, 517
# WAITPKG, 525 TME, 534 RDPID, 580 fast short REP MOV, 598, 600, 601 AMX, 606 core capabilities. Five levels of pages are
# turned off by a word that the boot code finds wherever it stands; it stands last, where the tests ignore it.
parameters="nopcid clearcpuid=298,312,321,323,324,514,515,516,517,525,534,580,598,600,601,606"
last=no5lvl

# archive makes apt work on one Debian release in the cache alone; "apt_get" and "apt_cache" then do.
archive() {
	apt=$cache/apt-$1
	mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$apt/parts"
	: >"$apt/status"
	echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian $1 main" >"$apt/sources.list"
	cat >"$apt/apt.conf" <<-END
		APT::Architecture "amd64";
		APT::Architectures "amd64";
		APT::Sandbox::User "$(id -un)";
		Dir::State "$apt";
		Dir::State::lists "$apt/lists";
		Dir::State::status "$apt/status";
		Dir::Cache "$apt/cache";
		Dir::Etc::sourcelist "$apt/sources.list";
		Dir::Etc::sourceparts "$apt/parts";
		Dir::Etc::preferencesparts "$apt/parts";
	END
	APT_CONFIG=$apt/apt.conf
	export APT_CONFIG
	apt-get update -qq
}

# fetch_tools unpacks the programs with all that they need, and the kernel for cloud machines, which has the serial port
# built in and little else.
fetch_tools() {
	[ ! -e "$cache/complete" ] || return 0
	rm -rf "$cache"
	archive trixie
	apt-get install -y -qq --download-only --no-install-recommends \
		bochs bochs-term cpio xorriso isolinux syslinux-common >/dev/null
	for deb in "$cache"/apt-trixie/cache/archives/*.deb; do
		dpkg-deb -x "$deb" "$cache/root"
	done
	# Under a name of its own, so that processes are known by it.
	cp "$cache/root/usr/lib64/ld-linux-x86-64.so.2" "$cache/bochs"
	archive bookworm
	kernel=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/.*Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1)
	(cd "$cache" && apt-get download -qq "$kernel" && dpkg-deb -x ./linux-image-*.deb kernel)
	cp "$cache"/kernel/boot/vmlinuz-* "$cache/vmlinuz"
	rm -rf "$cache"/apt-* "$cache"/kernel "$cache"/*.deb
	unset APT_CONFIG
	touch "$cache/complete"
}

# tool runs a program of the cache with its own libraries.
tool() {
	program=$1
	shift
	"$cache/root/usr/lib64/ld-linux-x86-64.so.2" --library-path "$cache/root/usr/lib/x86_64-linux-gnu" "$cache/root/usr/bin/$program" "$@"
}

# The garbage collector's own AVX-512 code goes wrong in Bochs, so the tests are built with the older collector.
#
# make_disc writes a CD that boots the kernel with the tests of level $1 as first process. The kernel gives it what follows
# "--".
make_disc() {
	rm -rf "$work/cd" "$work/root"
	mkdir -p "$work/cd/isolinux" "$work/root"
	(cd "$package" && GOEXPERIMENT=nogreenteagc CGO_ENABLED=0 GOOS=linux GOARCH=amd64 go test -c -ldflags='-s -w' -o "$work/root/init" .)
	(cd "$work/root" && echo init | tool cpio -o -H newc 2>/dev/null | gzip -1 >"$work/cd/initrd.gz")
	cp "$cache/vmlinuz" "$work/cd/vmlinuz"
	cp "$cache/root/usr/lib/ISOLINUX/isolinux.bin" "$cache/root/usr/lib/syslinux/modules/bios/ldlinux.c32" "$work/cd/isolinux/"
	cat >"$work/cd/isolinux/isolinux.cfg" <<-END
		DEFAULT tests
		LABEL tests
		LINUX /vmlinuz
		INITRD /initrd.gz
		APPEND console=ttyS0 mitigations=off $parameters -- -test.v -test.short -test.run=^Test(Linear.*|Gemm.*|Tile.*|Latents.*|AssemblyLevelsAgree|CheckKernels)$/^$1$ $last
	END
	tool xorriso -as mkisofs -quiet -o "$work/tests.iso" -b isolinux/isolinux.bin -c isolinux/boot.cat \
		-no-emul-boot -boot-load-size 4 -boot-info-table "$work/cd" 2>/dev/null
}

# start_emulator boots the CD on a CPU model. Debian's Bochs starts in its debugger, which is told to continue.
start_emulator() {
	echo c >"$work/continue"
	: >"$work/serial"
	cat >"$work/config" <<-END
		config_interface: textconfig
		display_library: rfb, options="timeout=0"
		romimage: file=$cache/root/usr/share/bochs/BIOS-bochs-latest
		vgaromimage: file=$cache/root/usr/share/bochs/VGABIOS-lgpl-latest
		cpu: model=$1, count=1, ips=50000000, reset_on_triple_fault=0
		megs: 512
		ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14
		ata0-master: type=cdrom, path=$work/tests.iso, status=inserted
		boot: cdrom
		com1: enabled=1, mode=file, dev=$work/serial
		log: $work/log
		panic: action=fatal
		error: action=ignore
		info: action=ignore
		clock: sync=none, time0=local
		sound: driver=dummy
	END
	LTDL_LIBRARY_PATH=$cache/root/usr/lib/x86_64-linux-gnu/bochs/plugins "$cache/bochs" \
		--library-path "$cache/root/usr/lib/x86_64-linux-gnu" "$cache/root/usr/bin/bochs-bin" \
		-q -f "$work/config" -rc "$work/continue" </dev/null >"$work/output" 2>&1 &
	emulator=$!
}

# await waits until the first process ends, which the kernel takes for the end of the world.
await() {
	waited=0
	until grep -q "Kernel panic" "$work/serial"; do
		if [ "$waited" -ge "$limit" ] || ! kill -0 "$emulator" 2>/dev/null; then
			echo "emulate.sh: no result after $waited seconds; the last lines were:" >&2
			for file in serial output log; do tail -n 5 "$work/$file"; done >&2
			exit 1
		fi
		sleep 2
		waited=$((waited + 2))
	done
	kill "$emulator" 2>/dev/null || true
	wait "$emulator" 2>/dev/null || true
	emulator=
}

# report shows the results of the level and decides. The kernel's last words hold the tests' exit code; a level that the
# emulated machine lacks would have no tests at all, so some are looked for.
report() {
	tr -d '\r' <"$work/serial" | sed -n '/Run .init as/,$p' >"$work/lines"
	grep -E "^ *--- " "$work/lines" || true
	for line in "--- PASS: TestLinear/$1 " "--- PASS: TestLinearRows/$1 " "--- PASS: TestGemm/$1 " "--- PASS: TestLatents/$1 " "exitcode=0x00000000"; do
		if ! grep -q -e "$line" "$work/lines"; then
			echo "emulate.sh: level $1 did not print \"$line\" but:" >&2
			head -n 100 "$work/lines" >&2
			exit 1
		fi
	done
}

[ $# -gt 0 ] || set -- avx512 avx512vnni avxvnni avx512bf16
fetch_tools
for level in "$@"; do
	model=$(machine "$level")
	echo "emulating $level on $model"
	make_disc "$level"
	start_emulator "$model"
	await
	report "$level"
done
