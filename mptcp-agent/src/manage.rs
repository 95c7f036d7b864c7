//! Keeps the kernel's endpoints and the routes by source in step with the
//! addresses of the paths that the user named (`--manage-endpoints`,
//! `--manage-routes`).
//!
//! A pure function of what there is decides what to do. The agent records what it
//! makes before it makes it, so that nothing is leaked or made twice after a crash,
//! and touches nothing else. The work is done beside the agent's loop, since adding or
//! removing an endpoint takes the kernel a while for each open connection.
//!
//! | file | what it does |
//! |---|---|
//! | `settings` | what the user asked for |
//! | `wanted` | which addresses belong to paths that the user named; pure |
//! | `plan` | decides what has to be done to endpoints; pure |
//! | `routes` | decides which routes have to be made; pure |
//! | `record` | keeps what the agent has made in a file |
//! | `reopen` | when to open subflows anew that were lost; pure |
//! | `rivals` | finds daemons that do the same |
//! | `apply` | does what was decided, and takes it back |
//! | `routing` | looks at routes, and tells of those that are missing |
//! | `task` | does all this whenever something changes |

mod apply;
mod plan;
mod record;
mod reopen;
mod rivals;
mod routes;
mod routing;
mod settings;
mod task;
mod wanted;

pub use apply::{Undone, undo};
pub use record::{Made, look};
pub use settings::{Role, Settings};
pub use task::Manager;
pub use wanted::Wanted;
