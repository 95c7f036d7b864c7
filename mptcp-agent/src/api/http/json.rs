//! The state of the agent as JSON, below `/api/v1/`.
//!
//! Each answer is the line that the control socket gives for the same question
//! ([`mptcp_api::schema`]). Nothing can be changed here.

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use mptcp_api::line;
use mptcp_api::schema::Reply;

use super::Shared;
use super::looks::{Look, Trouble};
use super::unavailable;
use crate::api::control::{self, view};

/// How many connections are listed if the request does not say.
const TOP: usize = 50;

/// The most connections that a request may ask for.
const MOST: usize = 1000;

/// The answer to a request for an unknown path below `/api/`.
pub const KNOWN: &str = "not found: /api/v1/ has connections, events, policy, quotas, rules, \
     scheduler and status\n";

/// Returns the routes below `/api/v1/`, except that of the events.
pub fn routes() -> Router<Shared> {
    Router::new()
        .route("/api/v1/connections", get(connections))
        .route("/api/v1/policy", get(|state| answer(state, policy)))
        .route("/api/v1/quotas", get(|state| answer(state, quotas)))
        .route("/api/v1/rules", get(|state| answer(state, rules)))
        .route("/api/v1/scheduler", get(|state| answer(state, scheduler)))
        .route("/api/v1/status", get(|state| answer(state, status)))
}

fn policy(look: &Look) -> Reply {
    Reply::Policy(view::policy(&look.snapshot.policy))
}

fn quotas(look: &Look) -> Reply {
    Reply::Quotas(view::quotas(&look.snapshot.quotas))
}

fn rules(look: &Look) -> Reply {
    let snapshot = &look.snapshot;
    Reply::Rules(control::rules(&snapshot.rules, &snapshot.policy.policy))
}

fn scheduler(look: &Look) -> Reply {
    Reply::Scheduler(view::scheduler(&look.snapshot))
}

fn status(look: &Look) -> Reply {
    Reply::Status(Box::new(view::status(&look.snapshot)))
}

async fn connections(state: State<Shared>, uri: Uri) -> Response {
    match top(uri.query().unwrap_or_default()) {
        Ok(top) => {
            let busiest = |look: &Look| Reply::Connections(look.busiest(top));
            answer(state, busiest).await
        }
        Err(why) => (StatusCode::BAD_REQUEST, why).into_response(),
    }
}

/// Reads how many connections a request asks for.
fn top(query: &str) -> Result<usize, String> {
    let wrong = || {
        format!(
            "`?{}` makes no sense: expected `?top=N`, N being a number from 1 to {MOST}\n",
            query.escape_debug()
        )
    };
    if query.is_empty() {
        return Ok(TOP);
    }
    let number = query
        .strip_prefix("top=")
        .and_then(|text| text.parse().ok());
    number
        .filter(|number| (1..=MOST).contains(number))
        .ok_or_else(wrong)
}

async fn answer(State(shared): State<Shared>, render: impl Fn(&Look) -> Reply) -> Response {
    let look = match shared.looks.get().await {
        Ok(look) => look,
        Err(Trouble::Silent) => return unavailable(),
        Err(Trouble::Failed(why)) => return failed(&why),
    };
    match line::reply(&render(&look)) {
        Ok(line) => {
            let headers = [
                (header::CONTENT_TYPE, "application/json"),
                (header::CACHE_CONTROL, "no-store"),
            ];
            (headers, line).into_response()
        }
        Err(error) => failed(&format!("the answer cannot be written as JSON: {error}")),
    }
}

fn failed(why: &str) -> Response {
    (StatusCode::INTERNAL_SERVER_ERROR, format!("{why}\n")).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_connections_has_bounds() {
        assert_eq!(top(""), Ok(TOP));
        assert_eq!(top("top=1"), Ok(1));
        assert_eq!(top("top=1000"), Ok(MOST));
        for wrong in [
            "top=0",
            "top=1001",
            "top=-1",
            "top=",
            "x",
            "top=1&x=2",
            "\n",
        ] {
            let why = top(wrong).expect_err("a mistake");
            assert!(why.contains("expected `?top=N`"), "{why}");
            assert_eq!(why.lines().count(), 1, "{why}");
        }
    }
}
