//! Arguments of `rules`.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use mptcp_api::schema::Side;

use super::client::{Checked, EXIT_STATUS, Target, Verb};
use crate::rules::{Candidate, read};

const TEST_EXAMPLES: &str = "\
Example:
  mptcp-agent rules test --dst 192.0.2.1 --dport 443 --uid 1000

dst and dport are always the far end, src and lport this host's, whichever end
opens the connection. What is not given here matches no rule that asks for it.";

/// Arguments of `rules`.
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true, after_long_help = EXIT_STATUS)]
pub struct RulesArgs {
    #[command(subcommand)]
    command: Option<RulesCommand>,

    #[command(flatten)]
    target: Target,
}

#[derive(Debug, Subcommand)]
enum RulesCommand {
    /// Say which rule a connection would match, and why the earlier ones would not
    #[command(after_long_help = TEST_EXAMPLES)]
    Test(Box<TestArgs>),
    /// Replace the rules and their policies: new connections at once, open ones within 100 ms
    ///
    /// FILE is JSON: {"policies": {"NAME": {...}}, "rules": [{...}]}. A file that
    /// is refused changes nothing. The rules are not kept: an agent that starts anew has those of its own
    /// configuration.
    #[command(after_long_help = EXIT_STATUS)]
    Set(SetArgs),
}

#[derive(Args, Debug)]
struct SetArgs {
    /// The file
    #[arg(value_name = "FILE")]
    file: PathBuf,

    #[command(flatten)]
    target: Target,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum SideArg {
    /// This host opens the connection
    Client,
    /// This host accepts it
    Server,
}

#[derive(Args, Debug)]
struct TestArgs {
    /// The far end's address
    #[arg(long, value_name = "ADDRESS")]
    dst: Option<IpAddr>,

    /// This host's address
    #[arg(long, value_name = "ADDRESS")]
    src: Option<IpAddr>,

    /// The far end's port
    #[arg(long, value_name = "PORT")]
    dport: Option<u16>,

    /// This host's port
    #[arg(long, value_name = "PORT")]
    lport: Option<u16>,

    /// The cgroup of the socket, as a path from the root of cgroup2
    #[arg(long, value_name = "PATH")]
    cgroup: Option<String>,

    /// The owner of the socket
    #[arg(long, value_name = "UID")]
    uid: Option<u32>,

    /// The mark of the socket, decimal or as 0x10
    #[arg(long, value_name = "MARK", value_parser = read::mark)]
    fwmark: Option<u32>,

    /// The code point, 0 to 63, or a name such as ef
    #[arg(long, value_name = "DSCP", value_parser = read::dscp)]
    dscp: Option<u32>,

    /// The end that this host is
    #[arg(long, value_enum)]
    side: Option<SideArg>,

    /// The congestion control
    #[arg(long, value_name = "NAME")]
    congestion: Option<String>,

    #[command(flatten)]
    target: Target,
}

impl RulesArgs {
    /// Checks that the arguments go together, and reads the file, if one is
    /// named.
    pub fn job(self) -> Checked {
        match self.command {
            None => self.target.job(&["rules"], Verb::RulesShow),
            Some(RulesCommand::Test(args)) => args.job(),
            Some(RulesCommand::Set(SetArgs { file, target })) => {
                const SET: &[&str] = &["rules", "set"];
                let rules = read::file(&file).map_err(|why| (SET, why))?;
                target.job(SET, Verb::RulesSet(Box::new(rules)))
            }
        }
    }
}

impl TestArgs {
    fn job(self) -> Checked {
        let candidate = Candidate {
            dst: self.dst,
            src: self.src,
            dport: self.dport,
            lport: self.lport,
            cgroup: self.cgroup,
            uid: self.uid,
            fwmark: self.fwmark,
            dscp: self.dscp,
            side: self.side.map(|side| match side {
                SideArg::Client => Side::Client,
                SideArg::Server => Side::Server,
            }),
            congestion: self.congestion,
        };
        let verb = Verb::RulesTest(Box::new(candidate));
        self.target.job(&["rules", "test"], verb)
    }
}
