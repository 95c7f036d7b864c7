//! The library that `mptcp-agent exec` puts into `LD_PRELOAD`. It takes the place
//! of `socket(2)` in a program: a TCP socket becomes an MPTCP socket, and where
//! the kernel refuses one, the program gets what it asked for.
//!
//! `mptcp-agent/build.rs` compiles this file alone into a shared object and embeds
//! it. That object names no library that it needs, so it works with glibc and with
//! musl: the program's own C library is there before it. For the same reason there
//! is neither `std` nor a dependency here.
#![cfg_attr(not(test), no_std)]

use core::arch::global_asm;
use core::ffi::{CStr, c_char, c_int, c_long, c_void};
use core::mem::transmute;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicPtr, Ordering::Relaxed};

const AF_INET: c_int = 2;
const AF_INET6: c_int = 10;
const SOCK_STREAM: c_int = 1;
/// The bits of a socket's type that are not flags (`SOCK_CLOEXEC`, `SOCK_NONBLOCK`).
const SOCK_TYPE_MASK: c_int = 0xf;
const IPPROTO_TCP: c_int = 6;
const IPPROTO_MPTCP: c_int = 262;

const EINVAL: c_int = 22;
const ENOPROTOOPT: c_int = 92;
const EPROTONOSUPPORT: c_int = 93;

/// The number of the system call, on the architectures that the agent supports.
const SYS_SOCKET: c_long = if cfg!(target_arch = "x86_64") {
    41
} else {
    198
};

/// `RTLD_NEXT`: the symbol in the libraries after this one.
const RTLD_NEXT: *mut c_void = usize::MAX as *mut c_void;

type Socket = unsafe extern "C" fn(c_int, c_int, c_int) -> c_int;
type Dlsym = unsafe extern "C" fn(*mut c_void, *const c_char) -> *mut c_void;

unsafe extern "C" {
    fn __errno_location() -> *mut c_int;
    fn syscall(number: c_long, ...) -> c_long;
    /// The address of `dlsym`, or none: before glibc 2.34, only programs that are
    /// linked with libdl have it.
    static mptcp_preload_dlsym: Option<Dlsym>;
}

// Stable Rust has no weak symbols, so a word in a table of addresses holds `dlsym`.
global_asm!(
    ".pushsection .data.rel.ro.mptcp_preload, \"aw\"",
    ".weak dlsym",
    ".globl mptcp_preload_dlsym",
    ".hidden mptcp_preload_dlsym",
    ".balign 8",
    "mptcp_preload_dlsym:",
    ".8byte dlsym",
    ".popsection",
);

/// `socket` of the next library, once it is known.
static NEXT: AtomicPtr<c_void> = AtomicPtr::new(null_mut());

/// Does what `socket(2)` does, with MPTCP in the place of TCP. `errno` is as
/// `socket(2)` would have left it.
///
/// # Safety
/// The program has a C library.
#[cfg_attr(feature = "interpose", unsafe(no_mangle))]
pub unsafe extern "C" fn socket(family: c_int, kind: c_int, protocol: c_int) -> c_int {
    // SAFETY: the C library returns the address of this thread's `errno`, which
    // nobody else uses.
    unsafe {
        if wants_mptcp(family, kind, protocol) {
            let errno = __errno_location();
            let before = *errno;
            let descriptor = next_socket(family, kind, IPPROTO_MPTCP);
            if descriptor >= 0 || !is_unsupported(*errno) {
                return descriptor;
            }
            *errno = before;
        }
        next_socket(family, kind, protocol)
    }
}

/// Returns whether these arguments of `socket(2)` ask for a TCP socket.
fn wants_mptcp(family: c_int, kind: c_int, protocol: c_int) -> bool {
    matches!(family, AF_INET | AF_INET6)
        && kind & SOCK_TYPE_MASK == SOCK_STREAM
        && matches!(protocol, 0 | IPPROTO_TCP)
}

/// Returns whether the kernel says by this error that it has no MPTCP: it was built
/// without it, or `net.mptcp.enabled` is 0.
fn is_unsupported(errno: c_int) -> bool {
    matches!(errno, EPROTONOSUPPORT | ENOPROTOOPT | EINVAL)
}

/// Calls `socket` of the next library in line, which may be another wrapper.
///
/// # Safety
/// The program has a C library.
unsafe fn next_socket(family: c_int, kind: c_int, protocol: c_int) -> c_int {
    let mut next = NEXT.load(Relaxed);
    if next.is_null() {
        next = look_up();
    }
    // SAFETY: `dlsym` gave the address of a function of this type. The system call
    // takes the same numbers.
    unsafe {
        if next.is_null() {
            syscall(SYS_SOCKET, family, kind, protocol) as c_int
        } else {
            transmute::<*mut c_void, Socket>(next)(family, kind, protocol)
        }
    }
}

/// Asks the dynamic loader for the next `socket`, and keeps the answer in [`NEXT`].
fn look_up() -> *mut c_void {
    const NAME: &CStr = c"socket";
    // SAFETY: the table of addresses is written before any code of this library
    // runs, and never again. `dlsym` reads the name only.
    let next = unsafe {
        match mptcp_preload_dlsym {
            Some(dlsym) => dlsym(RTLD_NEXT, NAME.as_ptr()),
            None => null_mut(),
        }
    };
    NEXT.store(next, Relaxed);
    next
}

/// Looks the next `socket` up when the library is loaded, because a program may call
/// `socket` in a signal handler, where `dlsym` must not be called.
#[cfg(feature = "interpose")]
#[used]
#[unsafe(link_section = ".init_array")]
static AT_LOAD: extern "C" fn() = {
    extern "C" fn at_load() {
        look_up();
    }
    at_load
};

/// Nothing here panics, but the compiler demands a handler.
#[cfg(feature = "interpose")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOCK_DGRAM: c_int = 2;
    const SOCK_NONBLOCK: c_int = 0o4000;
    const SOCK_CLOEXEC: c_int = 0o2_000_000;
    const AF_UNIX: c_int = 1;
    const IPPROTO_SCTP: c_int = 132;

    #[test]
    fn only_tcp_becomes_mptcp() {
        let flags = SOCK_CLOEXEC | SOCK_NONBLOCK;
        for family in [AF_INET, AF_INET6] {
            for protocol in [0, IPPROTO_TCP] {
                assert!(wants_mptcp(family, SOCK_STREAM, protocol));
                assert!(wants_mptcp(family, SOCK_STREAM | flags, protocol));
                assert!(!wants_mptcp(family, SOCK_DGRAM | flags, protocol));
            }
            for protocol in [IPPROTO_MPTCP, IPPROTO_SCTP] {
                assert!(!wants_mptcp(family, SOCK_STREAM, protocol));
            }
        }
        assert!(!wants_mptcp(AF_UNIX, SOCK_STREAM, 0));
    }

    #[test]
    fn a_kernel_without_mptcp_is_told_from_other_errors() {
        const EMFILE: c_int = 24;
        assert!([EINVAL, ENOPROTOOPT, EPROTONOSUPPORT].map(is_unsupported) == [true; 3]);
        assert!(!is_unsupported(EMFILE));
    }

    #[test]
    fn the_next_socket_answers_with_its_own_error() {
        const EAFNOSUPPORT: c_int = 97;
        // SAFETY: this program has a C library.
        let (descriptor, errno) = unsafe { (socket(9999, SOCK_STREAM, 0), *__errno_location()) };
        assert_eq!((descriptor, errno), (-1, EAFNOSUPPORT));
        assert!(!NEXT.load(Relaxed).is_null());
    }
}
