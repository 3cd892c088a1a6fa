#!/bin/sh
# emulate.sh runs the tests of the AVX-512 kernels on machines that lack it, in the Bochs emulator (Debian's package):
#
#	hardware/cpu/testdata/emulate.sh [avx512] [avx512vnni]
#
# For each level (both, if none is named) it builds the package's tests into one static program, boots a stock Linux
# kernel in the emulated machine with that program as its first process, and reads the result from the serial port. It
# needs Go and root on Debian or Ubuntu, and installs what else it needs: the emulator, a boot loader and a program that
# writes CD images; a kernel is only downloaded and unpacked. A level takes about two minutes of one idle core;
# EMULATE_SECONDS (1200) bounds it.
set -eu

limit=${EMULATE_SECONDS:-1200}
package=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
emulator=
cleanup() {
	[ -z "$emulator" ] || kill "$emulator" 2>/dev/null || true
	rm -rf "$work"
}
trap cleanup EXIT INT TERM

# Bochs 2.7 makes mistakes with some features that Linux would use and the kernels do not need. What is cleared: 321,
# 323 XSAVEC and XSAVES (it reports wrong sizes), 515, 516 protection keys, 298 INVPCID, 312 CLWB, 514 UMIP, 517
# WAITPKG, 525 TME, 528 5-level paging, 534 RDPID, 580 fast short REP MOV, 606 core capabilities.
machine() {
	case $1 in
	avx512) echo "corei7_skylake_x clearcpuid=321,323" ;;
	avx512vnni) echo "corei7_icelake_u nopcid clearcpuid=298,312,321,323,514,515,516,517,525,528,534,580,606" ;;
	*)
		echo "emulate.sh: unknown level $1, there are avx512 and avx512vnni" >&2
		exit 2
		;;
	esac
}

install_tools() {
	missing=
	for tool in bochs:bochs cpio:cpio xorriso:xorriso; do
		command -v "${tool%:*}" >/dev/null || missing="$missing ${tool#*:}"
	done
	for file in /usr/share/bochs/BIOS-bochs-latest:bochsbios /usr/share/bochs/VGABIOS-lgpl-latest:bochs \
		/usr/lib/ISOLINUX/isolinux.bin:isolinux /usr/lib/syslinux/modules/bios/ldlinux.c32:syslinux-common; do
		[ -e "${file%:*}" ] || missing="$missing ${file#*:}"
	done
	apt-get update -qq
	# shellcheck disable=SC2086
	[ -z "$missing" ] || apt-get install -y -qq --no-install-recommends $missing >/dev/null
}

# fetch_kernel unpacks the kernel for cloud machines, which has the serial port built in and little else.
fetch_kernel() {
	kernel=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/.*Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1)
	(cd "$work" && apt-get download -qq -o APT::Sandbox::User=root "$kernel" && dpkg-deb -x ./*.deb kernel)
	cp "$work"/kernel/boot/vmlinuz-* "$work/vmlinuz"
}

# The garbage collector's own AVX-512 code goes wrong in Bochs, so the tests are built with the older collector.
#
# make_disc writes a CD that boots the kernel with parameters $1 and the tests of level $2 as first process. The kernel
# gives it what follows "--".
make_disc() {
	mkdir -p "$work/cd/isolinux" "$work/root"
	(cd "$package" && GOEXPERIMENT=nogreenteagc CGO_ENABLED=0 GOOS=linux GOARCH=amd64 go test -c -ldflags='-s -w' -o "$work/root/init" .)
	(cd "$work/root" && echo init | cpio -o -H newc 2>/dev/null | gzip -1 >"$work/cd/initrd.gz")
	cp "$work/vmlinuz" "$work/cd/vmlinuz"
	cp /usr/lib/ISOLINUX/isolinux.bin /usr/lib/syslinux/modules/bios/ldlinux.c32 "$work/cd/isolinux/"
	cat >"$work/cd/isolinux/isolinux.cfg" <<-END
		DEFAULT tests
		LABEL tests
		LINUX /vmlinuz
		INITRD /initrd.gz
		APPEND console=ttyS0 mitigations=off $1 -- -test.v -test.short -test.run=^Test(Linear.*|Gemm.*|Tile.*|AssemblyLevelsAgree)$/^$2$
	END
	xorriso -as mkisofs -quiet -o "$work/tests.iso" -b isolinux/isolinux.bin -c isolinux/boot.cat \
		-no-emul-boot -boot-load-size 4 -boot-info-table "$work/cd" 2>/dev/null
}

# start_emulator boots the CD on a CPU model. Debian's Bochs starts in its debugger, which is told to continue.
start_emulator() {
	echo c >"$work/continue"
	: >"$work/serial"
	cat >"$work/config" <<-END
		config_interface: textconfig
		display_library: rfb, options="timeout=0"
		romimage: file=/usr/share/bochs/BIOS-bochs-latest
		vgaromimage: file=/usr/share/bochs/VGABIOS-lgpl-latest
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
	"$(command -v bochs-bin || command -v bochs)" -q -f "$work/config" -rc "$work/continue" </dev/null >"$work/output" 2>&1 &
	emulator=$!
}

# await waits until the first process ends, which the kernel takes for the end of the world.
await() {
	waited=0
	until grep -q "Kernel panic" "$work/serial"; do
		if [ "$waited" -ge "$limit" ] || ! kill -0 "$emulator" 2>/dev/null; then
			echo "emulate.sh: no result after $waited seconds; the last lines were:" >&2
			tail -n 5 "$work/serial" "$work/output" >&2
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
	for line in "--- PASS: TestLinear/$1 " "--- PASS: TestLinearRows/$1 " "--- PASS: TestGemm/$1 " "exitcode=0x00000000"; do
		if ! grep -q -e "$line" "$work/lines"; then
			echo "emulate.sh: level $1 did not print \"$line\" but:" >&2
			head -n 100 "$work/lines" >&2
			exit 1
		fi
	done
}

[ $# -gt 0 ] || set -- avx512 avx512vnni
install_tools
fetch_kernel
for level in "$@"; do
	machine=$(machine "$level")
	echo "emulating $level on ${machine%% *}"
	make_disc "${machine#* }" "$level"
	start_emulator "${machine%% *}"
	await
	report "$level"
done
