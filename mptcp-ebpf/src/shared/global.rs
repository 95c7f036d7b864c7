//! Global functions, which the verifier walks through once and by themselves.
//!
//! A function is global if the object's BTF says so, which `extern "C"` and
//! `no_mangle` bring about. At a call the verifier checks the arguments only,
//! and takes the result for any number. Code that is inlined, or called as a
//! function of Rust's own, is followed anew from each state of each caller.
//!
//! | what a global function | can be, on every kernel that the agent supports |
//! |---|---|
//! | takes, at most five of | a number, the program's context, a pointer to a value of known size |
//! | returns | a number |
//!
//! * A pointer may be null, as far as the verifier knows: check it. It points to
//!   a map value or to the caller's stack, all of which must be initialised,
//!   padding included. What lies there is unknown afterwards.
//! * Sockets and other pointers that BTF types cannot be passed. A function that
//!   gets the context can take the socket from there.
//! * rustc may learn from a function's body what it returns, and leave a check
//!   out that the verifier needs: see [`any`].

/// Returns a number that a global function has returned, about which rustc then
/// knows as little as the verifier.
#[inline(always)]
pub fn any(mut number: u32) -> u32 {
    // SAFETY: the assembly is empty.
    unsafe {
        core::arch::asm!("/* {0} */", inout(reg) number, options(pure, nomem, nostack));
    }
    number
}
