//! The names of the object's maps and programs, for user space: the agent that
//! opens them, and the tests that look for what is left of them. A unit test of
//! the agent holds them against the object.

/// Makes a constant for each name, and a list of all of them.
macro_rules! names {
    ($($constant:ident = $name:expr),* $(,)?) => {
        $(
            #[doc = concat!("The name `", $name, "`.")]
            pub const $constant: &str = $name;
        )*

        /// All names of this module.
        pub const ALL: &[&str] = &[$($constant),*];
    };
}

/// The maps. The sections of globals and the map of aya-log are left out: they
/// have the same names in every BPF object.
pub mod map {
    macro_rules! maps {
        ($($constant:ident),* $(,)?) => {
            names! { $($constant = stringify!($constant)),* }
        };
    }

    maps! {
        ADDRESSES,
        ARRIVALS,
        BUDGETS,
        CARRIERS,
        CEILINGS,
        CONFIG,
        CONNECTIONS,
        COOKIE_OF,
        COPY_STATS,
        DEVICES,
        EVENTS,
        FAMILIAR,
        GONE,
        CHANNELS,
        CHANNEL_BUDGETS,
        CHANNEL_OF,
        CHANNEL_TRAFFIC,
        LEDGERS,
        LISTENERS,
        NEW_ARRIVAL,
        NEW_CARRIERS,
        NEW_CONNECTION,
        NEW_SUBFLOW,
        PATHS,
        PATH_STATS,
        PATIENCE,
        PEER_CHANNELS,
        PEER_VIEW,
        POLICIES,
        REDUNDANT,
        RULES,
        RULE_STATS,
        RUNS,
        SELECT_DEVICE,
        SELECT_ID,
        SELECT_PREFIX,
        SELECT_REMOTE,
        STACKED,
        SUBFLOWS,
        SWEEP,
        TOTALS,
    }
}

/// The programs, as the object names them.
pub mod program {
    names! {
        SOCKOPS = "mptcp_sockops",
        GET_SEND = "mptcp_subflow_get_send",
        ITER_TCP = "iter_tcp",
        REDUNDANT_EGRESS = "redundant_egress",
        REDUNDANT_INGRESS = "redundant_ingress",
    }
}
