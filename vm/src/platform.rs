//! The properties of a virtual machine that depend on its architecture.

use std::time::Duration;

use xtask::cross::Arch;

/// A virtual machine's architecture, and what follows from it.
#[derive(Debug)]
pub struct Platform {
    /// The architecture.
    pub arch: Arch,
    /// QEMU's program for it.
    pub qemu: &'static str,
    /// The Debian package that contains QEMU.
    pub qemu_package: &'static str,
    /// QEMU's arguments that choose the board and the processor.
    pub board: &'static [&'static str],
    /// The kernel's name of the board's first serial port.
    pub console: &'static str,
    /// How long a kernel may take to boot.
    pub boot: Duration,
    /// How long all checks together may take. This is long because the verifier
    /// runs a second time, to log its reasons, if it refuses a program.
    pub limit: Duration,
}

const X86_64: Platform = Platform {
    arch: Arch::X86_64,
    qemu: "qemu-system-x86_64",
    qemu_package: "qemu-system-x86",
    board: &["-cpu", "max"],
    console: "ttyS0",
    boot: Duration::from_secs(60),
    limit: Duration::from_secs(540),
};

const AARCH64: Platform = Platform {
    arch: Arch::Aarch64,
    qemu: "qemu-system-aarch64",
    qemu_package: "qemu-system-arm",
    // The processor of many routers. `max` would sign each return address, which
    // takes an emulator several times as long.
    board: &["-machine", "virt", "-cpu", "cortex-a72"],
    console: "ttyAMA0",
    boot: Duration::from_secs(120),
    limit: Duration::from_secs(1080),
};

impl Platform {
    /// Returns the platform of an architecture.
    pub fn of(arch: Arch) -> &'static Self {
        match arch {
            Arch::X86_64 => &X86_64,
            Arch::Aarch64 => &AARCH64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn qemu_is_named_after_the_architecture() {
        for arch in [Arch::X86_64, Arch::Aarch64] {
            let platform = Platform::of(arch);
            assert_eq!(platform.arch, arch);
            assert_eq!(platform.qemu, format!("qemu-system-{}", arch.name()));
        }
    }
}
