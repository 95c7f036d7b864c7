//! Asks the agents at the other ends for weights, and carries out what they ask
//! for.

use std::time::{Duration, Instant};

use ipnet::IpNet;
use mptcp_api::wish::Answer;

use super::change::{Failure, switch};
use super::together::Wanted as Whole;
use super::{Agent, change};
use crate::kernel::monotonic_ns;
use crate::peering::{self, Book, Peering, Wanted};
use crate::policy::{Policy, Provided};
use crate::redundancy::{Reply, Wishing};
use crate::rules::{Provided as ProvidedRules, Rules};
use crate::state::paths::PathTable;
use crate::state::snapshot::{self, AskedPeer, WishState};

/// Returns whom the agent asks for what, and whether others may ask it.
pub(super) fn wishing(peering: &Peering, policy: &Policy, table: &PathTable) -> Wishing {
    Wishing {
        own: peering.own(policy, table),
        accepts: !peering.settings.accept.is_empty(),
    }
}

/// Returns the prefixes whose hosts may ask.
pub(super) fn accepted(peering: Option<&Peering>) -> Vec<IpNet> {
    peering.map_or_else(Vec::new, |peering| peering.settings.accept.clone())
}

/// Returns when [`Agent::follow_wishes`] has something to do.
pub(super) fn due(wishes: &Book) -> Option<Instant> {
    let due_ns = wishes.due_ns()?;
    Some(Instant::now() + Duration::from_nanos(due_ns.saturating_sub(monotonic_ns())))
}

impl Agent {
    /// Does what [`wishing`] does, for the policy in force.
    pub(super) fn wishing(&self) -> Option<Wishing> {
        let peering = self.peering.as_ref();
        peering.map(|peering| wishing(peering, &self.policy, &self.table))
    }

    /// Lets the next hellos ask for what the policy in force says.
    pub(super) fn ask_peers(&mut self) {
        if let (Some(wishing), Some(service)) = (self.wishing(), &mut self.redundant) {
            service.ask(wishing.own);
        }
    }

    /// Takes the wishes that have arrived.
    pub(super) fn hear_wishes(&mut self) {
        let Some(service) = &mut self.redundant else {
            return;
        };
        let (heard, now_ns) = (service.heard(), monotonic_ns());
        if heard.is_empty() {
            return;
        }
        for heard in heard {
            if let Some(line) = self.wishes.hear(&heard, now_ns) {
                tracing::warn!("{line}");
            }
        }
        self.follow_wishes();
    }

    /// Puts in force what has changed among the wishes.
    pub(super) fn follow_wishes(&mut self) {
        let now_ns = monotonic_ns();
        if let Some(wanted) = self.wishes.due(now_ns) {
            self.carry_out(wanted, now_ns);
            self.scraped.forget();
        }
        if let Some(service) = &mut self.redundant {
            service.answers(self.wishes.answers());
        }
    }

    /// Carries the wishes out anew, after the host's own settings may have
    /// changed.
    pub(super) fn reconsider_wishes(&mut self) {
        self.wishes.reconsider();
        let now_ns = monotonic_ns();
        let wanted = self.wishes.wanted(now_ns);
        if wanted.is_empty() && self.rules == self.own_rules {
            return;
        }
        self.carry_out(wanted, now_ns);
    }

    /// Goes back to the host's own rules. Returns whether there were others.
    pub(super) fn drop_wishes(&mut self) -> bool {
        let any = self.rules != self.own_rules && self.put_rules(self.own_rules.clone()).is_ok();
        if any {
            self.wishes.put_in_force(Vec::new(), monotonic_ns());
        }
        any
    }

    /// Puts these wishes in force, as far as they can be beside the host's own
    /// settings.
    fn carry_out(&mut self, wanted: Vec<Wanted>, now_ns: u64) {
        let mut good: Vec<Wanted> = Vec::new();
        for one in wanted {
            let mut with = good.clone();
            with.push(one.clone());
            match self.combine(&with) {
                Ok(_) => good = with,
                Err(why) => self.refuse_wish(one, why, now_ns),
            }
        }
        loop {
            let Ok(rules) = self.combine(&good) else {
                return;
            };
            let why = match self.put_rules(rules) {
                Ok(()) => break,
                Err(why) => why,
            };
            // The last one to come is the first one to go.
            let new = |one: &Wanted| !self.wishes.in_force().contains(one);
            let at = good.iter().rposition(new);
            let Some(at) = at.or_else(|| good.len().checked_sub(1)) else {
                tracing::error!("cannot go back to this host's own rules: {why}");
                break;
            };
            let one = good.remove(at);
            self.refuse_wish(one, why, now_ns);
        }
        for one in &good {
            if !self.wishes.in_force().contains(one) {
                let weights: Vec<String> = one
                    .weights
                    .iter()
                    .map(|(address, weight)| format!("{address}={weight}"))
                    .collect();
                tracing::info!(
                    weights = weights.join(" "),
                    "the wish of a peer is in force"
                );
            }
        }
        if good.len() < self.wishes.in_force().len() {
            tracing::info!("the wish of a peer is no longer in force");
        }
        self.wishes.put_in_force(good, now_ns);
    }

    fn refuse_wish(&mut self, wanted: Wanted, why: String, now_ns: u64) {
        let address = wanted.weights.first().map(|(address, _)| *address);
        if self.wishes.tell(wanted.peer, now_ns)
            && let Some(address) = address
        {
            tracing::warn!("the wish of the agent at {address} is refused: {why}");
        }
        self.wishes.refuse(wanted, why);
    }

    /// Returns the host's own rules, and after them those of these wishes.
    ///
    /// # Errors
    /// One line: the last wish cannot be carried out.
    fn combine(&self, wanted: &[Wanted]) -> Result<ProvidedRules, String> {
        let own = &self.own_rules;
        if let Some(last) = wanted.last() {
            let standby = last.weights.iter().any(|(_, weight)| *weight == 0);
            let peering = self.peering.as_ref().filter(|_| standby);
            if let Some(why) = peering.and_then(|peering| peering.no_standby.clone()) {
                return Err(why);
            }
            if let Some(why) = peering::conflict(&self.policy, &own.rules, last) {
                return Err(why);
            }
        } else {
            return Ok(own.clone());
        }
        let set = peering::set(&own.rules, wanted);
        let rules = Rules::new(set, &self.rules.rules).map_err(|invalid| invalid.to_string())?;
        // The operator's policies keep their indices in any case.
        Ok(ProvidedRules {
            rules,
            key: own.key.clone(),
        })
    }

    /// Puts rules in force that carry out wishes.
    ///
    /// # Errors
    /// One line: they are not in force.
    fn put_rules(&mut self, rules: ProvidedRules) -> Result<(), String> {
        if rules == self.rules {
            return Ok(());
        }
        let default = Provided {
            policy: self.policy.clone(),
            key: self.key.clone(),
        };
        match switch(self, Whole { default, rules }) {
            Ok(()) => Ok(()),
            Err(Failure::Failed(failed)) if failed.is_in_force() => {
                tracing::error!("{}", failed.refusal(&self.policy).message);
                Ok(())
            }
            Err(Failure::Failed(failed)) => Err(failed.refusal(&self.policy).message),
            Err(Failure::Refused(change::Refused(error))) => Err(format!("{error:#}")),
        }
    }

    /// Returns what agents ask each other for.
    pub(super) fn peering_view(&self) -> Option<snapshot::Peering> {
        let settings = &self.peering.as_ref()?.settings;
        let service = self.redundant.as_ref();
        let (replies, unanswered) = service.map(|service| service.replies()).unwrap_or_default();
        Some(snapshot::Peering {
            asks: settings.ask,
            accepts: settings.accept.clone(),
            asked: replies.into_iter().map(asked).collect(),
            unanswered,
            heard: self.wishes.shown(),
            refused: self.wishes.refused(),
        })
    }
}

fn asked(reply: Reply) -> AskedPeer {
    let (state, reason) = match reply.answer {
        _ if !reply.present => (WishState::Silent, None),
        Ok(Answer::InForce) => (WishState::InForce, None),
        Ok(Answer::Refused(why)) => (WishState::Refused, Some(why)),
        Ok(Answer::NotHere) => (WishState::NotAccepted, None),
        Ok(Answer::Waits | Answer::Nothing) => (WishState::Waits, None),
        Err(why) => (WishState::Refused, Some(why.to_owned())),
    };
    AskedPeer {
        remote: reply.remote,
        state,
        reason,
    }
}
