//! The model: what the agent knows of paths, rates and events.
//!
//! Pure: nothing here does IO or reads a clock; times and maps' contents are
//! arguments.
//!
//! | file | what it is |
//! |---|---|
//! | `paths` | which path has which index, weight and label |
//! | `rates` | what each path did during the last ten seconds |
//! | `reach` | which paths are known not to reach anybody |
//! | `fitness` | which paths are left out beyond their bounds |
//! | `snapshot` | everything that an answer shows, collected once |
//! | `accounts` | how much of its quota each path has used |
//! | `events` | the programs' events, typed |

pub mod accounts;
pub mod events;
pub mod fitness;
pub mod paths;
pub mod rates;
pub mod reach;
pub mod snapshot;
