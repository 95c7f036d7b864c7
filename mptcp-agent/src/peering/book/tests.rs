#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use mptcp_api::wish::Fault;

use super::*;

const START: u64 = 1_000_000 * MS;

fn book() -> Book {
    let accept = ["10.0.0.0/8", "fd00::/16"];
    Book::new(accept.iter().map(|net| net.parse().unwrap()).collect())
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn heard(peer: u64, from: &str, weights: &[(&str, u16)]) -> Heard {
    let weights = weights.iter();
    Heard {
        peer,
        from: address(from),
        asked: Ok(Asked::Weights(Wish {
            manner: Manner::default(),
            weights: weights
                .map(|(text, weight)| (address(text), *weight))
                .collect(),
        })),
    }
}

/// Puts in force what is due, and returns its weights.
fn settle(book: &mut Book, now_ns: u64) -> Vec<(u64, Vec<(String, u16)>)> {
    if let Some(wanted) = book.due(now_ns) {
        book.put_in_force(wanted, now_ns);
    }
    let weights = |one: &Wanted| {
        let weights = one.weights.iter();
        let weights = weights.map(|(address, weight)| (address.to_string(), *weight));
        (one.peer, weights.collect())
    };
    book.in_force().iter().map(weights).collect()
}

fn one(peer: u64, weights: &[(&str, u16)]) -> Vec<(u64, Vec<(String, u16)>)> {
    let weights = weights.iter();
    vec![(
        peer,
        weights
            .map(|(text, weight)| ((*text).to_owned(), *weight))
            .collect(),
    )]
}

const BOTH: [(&str, u16); 2] = [("10.0.1.1", 1), ("10.0.2.1", 3)];

#[test]
fn a_wish_counts_once_its_addresses_are_proven_and_for_three_seconds() {
    let mut book = book();
    assert_eq!(book.due_ns(), None);
    assert_eq!(book.hear(&heard(7, "10.0.1.1", &BOTH), START), None);
    assert_eq!(settle(&mut book, START), []);
    assert_eq!(book.answers(), [(7, Answer::Waits)]);
    book.hear(&heard(7, "10.0.2.1", &BOTH), START + 50 * MS);
    assert_eq!(settle(&mut book, START + 50 * MS), one(7, &BOTH));
    assert_eq!(book.answers(), [(7, Answer::InForce)]);
    assert!(book.shown()[0].weights.iter().all(|(_, _, proven)| *proven));
    // A change holds at once, but not more often than ten times a second.
    let other = [("10.0.1.1", 5), ("10.0.2.1", 3)];
    book.hear(&heard(7, "10.0.1.1", &other), START + 60 * MS);
    assert_eq!(settle(&mut book, START + 60 * MS), one(7, &BOTH));
    assert_eq!(book.due_ns(), Some(START + 150 * MS));
    assert_eq!(settle(&mut book, START + 150 * MS), one(7, &other));
    // Silence ends it.
    let end = START + 60 * MS + SILENT;
    assert_eq!(settle(&mut book, end - MS), one(7, &other));
    assert_eq!(book.due_ns(), Some(end));
    assert_eq!(settle(&mut book, end), []);
    assert_eq!((book.answers(), book.due(end + REST)), (vec![], None));
    assert_eq!(book.due_ns(), None);
}

#[test]
fn no_time_that_has_passed_is_due() {
    let mut book = book();
    book.hear(&heard(7, "10.0.1.1", &BOTH), START);
    for step in 0..500 {
        let now_ns = START + step * 10 * MS;
        settle(&mut book, now_ns);
        assert!(book.due_ns().is_none_or(|due_ns| due_ns > now_ns), "{step}");
    }
}

#[test]
fn addresses_that_are_not_proven_do_not_count() {
    let mut book = book();
    book.hear(&heard(7, "10.0.1.1", &BOTH), START);
    let later = START + PATIENCE;
    assert_eq!(settle(&mut book, later), one(7, &[("10.0.1.1", 1)]));
    // A wish from an address that it does not name proves none.
    book.hear(&heard(8, "10.9.9.9", &[("10.0.2.1", 9)]), later);
    assert_eq!(
        settle(&mut book, later + PATIENCE),
        one(7, &[("10.0.1.1", 1)])
    );
    // An address is that of the peer that proved it last: an agent that was
    // started anew.
    book.hear(&heard(9, "10.0.1.1", &[("10.0.1.1", 4)]), later + PATIENCE);
    let now_ns = later + PATIENCE + REST;
    assert_eq!(settle(&mut book, now_ns), one(9, &[("10.0.1.1", 4)]));
}

#[test]
fn a_wish_that_is_withdrawn_ends_at_once() {
    let mut book = book();
    let only = [("fd00::1", 2)];
    book.hear(&heard(7, "fd00::1", &only), START);
    assert_eq!(settle(&mut book, START), one(7, &only));
    let no_more = Heard {
        asked: Ok(Asked::NoMore),
        ..heard(7, "fd00::1", &only)
    };
    book.hear(&no_more, START + REST);
    assert_eq!(settle(&mut book, START + REST), []);
}

#[test]
fn hostile_wishes_leave_what_is_in_force_alone_and_log_one_line() {
    let mut book = book();
    book.hear(&heard(7, "10.0.1.1", &BOTH), START);
    book.hear(&heard(7, "10.0.2.1", &BOTH), START);
    assert_eq!(settle(&mut book, START), one(7, &BOTH));
    let many: Vec<String> = (1..=9).map(|n| format!("10.0.3.{n}")).collect();
    let many: Vec<_> = many.iter().map(|one| (one.as_str(), 1)).collect();
    let zero = [("10.0.1.1", 0)];
    let twice = [("10.0.1.1", 1), ("10.0.1.1", 2)];
    let foreign = [("10.0.1.1", 1), ("192.0.2.1", 2)];
    let bad: [(&[(&str, u16)], &str); 6] = [
        (&foreign, "192.0.2.1 is in no prefix of accept-peer-policy"),
        (&many, "9 addresses: expected 1 to 8"),
        (&many[..8], "more than 8 addresses"),
        (&zero, "every weight is 0"),
        (&twice, "10.0.1.1 is there twice"),
        (&[], "0 addresses"),
    ];
    let mut lines = Vec::new();
    for (step, (weights, why)) in (1..).zip(bad) {
        let now_ns = START + step * REST;
        lines.extend(book.hear(&heard(7, "10.0.1.1", weights), now_ns));
        assert_eq!(settle(&mut book, now_ns), one(7, &BOTH));
        let answers = book.answers();
        let [(7, Answer::Refused(said))] = &answers[..] else {
            panic!("{answers:?}");
        };
        assert!(said.contains(why), "{said}");
    }
    let unreadable = Heard {
        peer: 7,
        from: address("10.0.1.1"),
        asked: Err(Fault::Unreadable),
    };
    lines.extend(book.hear(&unreadable, START + 8 * REST));
    assert_eq!(
        lines,
        [
            "the wish of the agent at 10.0.1.1 is refused: 192.0.2.1 is in no prefix of \
          accept-peer-policy"
        ]
    );
    assert_eq!(book.refused(), 7);
    // Good ones count again once there was none like that for three seconds.
    let later = START + 8 * REST + SILENT;
    book.hear(&heard(7, "10.0.1.1", &BOTH), later - MS);
    assert!(matches!(&book.answers()[..], [(7, Answer::Refused(_))]));
    for from in ["10.0.1.1", "10.0.2.1"] {
        book.hear(&heard(7, from, &BOTH), later);
    }
    assert_eq!(settle(&mut book, later), one(7, &BOTH));
    assert_eq!(book.answers(), [(7, Answer::InForce)]);
    let line = book.hear(&heard(7, "10.0.1.1", &zero), START + REST + QUIET);
    assert!(line.is_some(), "ten seconds later");
}

#[test]
fn what_the_host_refuses_is_not_tried_again_until_something_changes() {
    let mut book = book();
    let only = [("10.0.1.1", 1)];
    book.hear(&heard(7, "10.0.1.1", &only), START);
    let wanted = book.due(START).unwrap();
    book.refuse(wanted[0].clone(), "no room".to_owned());
    book.put_in_force(Vec::new(), START);
    let refused = Answer::Refused("no room".to_owned());
    assert_eq!(book.answers(), [(7, refused)]);
    book.hear(&heard(7, "10.0.1.1", &only), START + REST);
    assert_eq!(book.due(START + REST), None);
    book.reconsider();
    assert_eq!(book.due(START + REST), Some(wanted));
}

#[test]
fn there_is_an_end_to_the_peers_that_are_remembered() {
    let mut book = book();
    for peer in 0..MOST as u64 + 10 {
        let text = format!("10.1.{}.{}", peer / 256, peer % 256);
        book.hear(&heard(peer, &text, &[(&text, 1)]), START);
    }
    assert_eq!(book.shown().len(), MOST);
    assert_eq!(book.refused(), 10);
}
