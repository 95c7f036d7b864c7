//! Arguments about what the agent manages beside its policy.

use clap::{Args, ValueEnum};

use crate::manage::{Role, Settings};

/// The arguments, of `run` only.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub struct ManageArgs {
    /// Keep the kernel's endpoints in step with the addresses of named paths
    ///
    /// The paths are those that --weight, --prefer or --limit name by a device,
    /// or by an address or prefix of this host. When such a device has an
    /// address, the agent adds an endpoint for it, with the flag subflow (a
    /// client), signal (a server: the address is announced) or fullmesh
    /// (subflows to each address of the other end), and backup if the path has
    /// weight 0. When the address goes, so does the endpoint. The limit of
    /// subflows is raised where it is too low. Endpoints that others made are
    /// left alone. The agent's own stay when it ends, because removing them
    /// would close subflows; `mptcp-agent cleanup` removes them. The agent does
    /// not start where NetworkManager or mptcpd manages endpoints.
    #[arg(
        long,
        value_name = "ROLE",
        value_enum,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "subflow"
    )]
    pub manage_endpoints: Option<RoleArg>,

    /// Give packets from each address of these paths a way by its own device
    ///
    /// The agent adds two rules and a table (of 52700 to 52799) for each
    /// address: packets from it go where the main table says, unless that is
    /// the default route; those go to the router of the address's device, as a
    /// default route in any table names it. IPv4 and IPv6. Addresses for which
    /// somebody else has a rule are left alone. The routes stay when the agent
    /// ends; `mptcp-agent cleanup` removes them. Without this, routes that are
    /// missing are told in the log.
    #[arg(long)]
    pub manage_routes: bool,
}

/// `--manage-endpoints=ROLE`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum RoleArg {
    /// Subflows are opened from the address
    #[default]
    Subflow,
    /// The address is announced to the other end
    Signal,
    /// Subflows are opened from the address to each address of the other end
    Fullmesh,
}

impl ManageArgs {
    /// Returns the role of the endpoints that the agent manages, or `false`.
    pub fn endpoints_in_words(&self) -> String {
        let role = self
            .manage_endpoints
            .and_then(|role| role.to_possible_value());
        role.map_or_else(|| "false".to_owned(), |role| role.get_name().to_owned())
    }

    /// Returns the settings.
    pub fn settings(&self) -> Settings {
        let role = |role| match role {
            RoleArg::Subflow => Role::Subflow,
            RoleArg::Signal => Role::Signal,
            RoleArg::Fullmesh => Role::Fullmesh,
        };
        Settings {
            manage_endpoints: self.manage_endpoints.map(role),
            manage_routes: self.manage_routes,
        }
    }
}
