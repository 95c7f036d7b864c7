//! Which types user space may read from a map as they are.

use crate::abi::{Config, Connection, Event, PathConfig, PathStats, Subflow, Totals};

macro_rules! pod {
    ($($type:ty)*) => {$(
        // SAFETY: repr(C), no implicit padding (asserted in `abi`), and valid
        // for every bit pattern: integers only.
        unsafe impl aya::Pod for $type {}
    )*};
}

pod! { Config Event PathConfig PathStats Subflow Totals }

// `aya::Pod` wants `Copy`, which atomics are not: `Connection` is the kernel's
// alone; user space sees its keys only.
const _: fn(&Connection) = |_| {};
