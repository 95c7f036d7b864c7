//! `cargo xtask bench reliability`: measures how the death of an agent, its
//! successor and a change of policy affect open connections, and whether its
//! heartbeat goes on while it is busy.

mod beats;
mod churn;
mod kills;
mod load;
mod station;
mod switches;
mod upgrade;

use std::path::Path;

use anyhow::Result;

use super::plan::Links;
use super::rows::{Choice, Results};
use upgrade::How;

#[derive(clap::Args)]
pub struct Args {
    /// A tenth of everything: about three minutes
    #[arg(long)]
    quick: bool,
    #[command(flatten)]
    choice: Choice,
}

/// How often each thing is done.
struct Amounts {
    /// SIGKILLs over all pairs of hosts.
    kills: u32,
    /// Short connections.
    connections: usize,
    /// Switches of the policy.
    switches: usize,
    /// Agents that take over from another.
    upgrades: u32,
}

impl Amounts {
    fn new(quick: bool) -> Self {
        if quick {
            return Self {
                kills: 20,
                connections: 10_000,
                switches: 8,
                upgrades: 2,
            };
        }
        Self {
            kills: 200,
            connections: 100_000,
            switches: 50,
            upgrades: 5,
        }
    }
}

impl Args {
    /// Measures the chosen rows with the agent's binary `agent`.
    pub fn run(&self, agent: &Path) -> Result<()> {
        let amounts = Amounts::new(self.quick);
        let wants = |row: &str| self.choice.wants(&row);
        let mut pairs = kills::pairs();
        pairs.retain(|links| wants(&format!("kills {}", links.title)));
        let (churn, switches, beats) = (wants("churn"), wants("switches"), wants("beats"));
        let mut ways = vec![How::TakeOver, How::Kill];
        ways.retain(|how| wants(&how.to_string()));
        let others = [churn, switches, beats].map(usize::from);
        let rows = pairs.len() + others.iter().sum::<usize>() + ways.len();
        self.choice.ensure_any(rows)?;
        if self.choice.only.is_empty() {
            let minutes = if self.quick { 3 } else { 15 };
            eprintln!("{rows} rows, about {minutes} min");
        }

        let mut results = Results::default();
        if !pairs.is_empty() {
            kills(&mut results, agent, &pairs, amounts.kills);
        }
        if churn {
            println!("{}", churn::header());
            let outcome = churn::measure(agent, amounts.connections);
            results.add("churn", outcome.map(|churned| churned.outcome()));
        }
        if switches {
            println!("{}", switches::header());
            let outcome = switches::measure(agent, amounts.switches);
            results.add("switches", outcome.map(|switches| switches.outcome()));
        }
        if beats {
            println!("{}", beats::header());
            let outcome = beats::measure(agent);
            results.add("beats", outcome.map(|beats| beats.outcome()));
        }
        if !ways.is_empty() {
            println!("{}", upgrade::header());
        }
        for how in ways {
            let outcome = upgrade::measure(agent, how, amounts.upgrades);
            results.add(&how.to_string(), outcome.map(|done| done.outcome(how)));
        }
        results.finish(&self.choice)
    }
}

fn kills(results: &mut Results, agent: &Path, pairs: &[Links], count: u32) {
    println!("{}", kills::header());
    let (done, left) = kills::measure(agent, pairs, count);
    for (links, kills) in pairs.iter().zip(done) {
        let label = format!("kills {}", links.title);
        results.add(&label, kills.map(|kills| kills.outcome(links)));
    }
    results.add("kills: left", left.map(|left| left.outcome()));
}
