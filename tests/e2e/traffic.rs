//! The lab's traffic of many connections, of objects and of frames.

use std::time::Duration;

use anyhow::Result;
use mptcp_lab::share::Totals;
use mptcp_lab::traffic::{
    ANY, Crowd, Frames, ObjectClient, PollServer, Service, Sockets, fetch_fresh,
};
use mptcp_lab::{Host, Lab, Path, TwoHosts, require_lab, wait};

use crate::SOON;

fn server(host: &Host, service: Service) -> Result<PollServer> {
    PollServer::spawn(host, ANY, service, &Sockets::default())
}

fn two_paths(lab: &Lab) -> Result<TwoHosts> {
    lab.two_hosts([
        Path::new("p1").rate_mbit(20.0),
        Path::new("p2").rate_mbit(10.0),
    ])
}

#[test]
fn uploads_use_all_paths_and_add_up() -> Result<()> {
    require_lab!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let sink = server(&net.server, Service::Sink)?;
    let crowd = Crowd::uploads(5).start(&net.client, sink.at(net.server_addr()))?;
    assert_eq!(crowd.wait_for_joins(2, SOON)?, 5);
    let addresses: Vec<_> = net.links.iter().map(|link| link.client_addr).collect();
    let mut totals = Totals::default();
    let enough = [300_000, 150_000];
    wait::try_until("bytes on both paths, of each connection", SOON, || {
        let subflows = crowd.subflows().map_err(|error| format!("{error:#}"))?;
        totals.read(&subflows, &addresses);
        let carried = totals.paths.iter().zip(enough);
        if totals.connections.iter().all(|bytes| *bytes > 1_000)
            && carried.clone().all(|(bytes, enough)| *bytes > enough)
        {
            return Ok(());
        }
        Err(format!("{totals:?}"))
    })?;
    // The receiver has what is acknowledged, but for what waits to be read.
    let acked = totals.paths.iter().sum::<u64>();
    wait::try_until("the bytes at the server", SOON, || match sink.received() {
        received if received * 2 > acked => Ok(()),
        received => Err((received, acked)),
    })?;
    crowd.stop()?;
    sink.stop()
}

#[test]
fn requests_of_a_crowd_get_their_responses() -> Result<()> {
    require_lab!();
    let lab = Lab::new()?;
    let net = lab.two_hosts([Path::new("p1").delay_ms(5.0)])?;
    let echo = server(&net.server, Service::Echo)?;
    let crowd = Crowd::requests(4, 200, Duration::from_millis(20));
    let crowd = crowd.start(&net.client, echo.at(net.server_addr()))?;
    wait::try_until("responses", SOON, || match crowd.responses() {
        40.. => Ok(()),
        so_far => Err(so_far),
    })?;
    let latencies = crowd.latencies_from(10);
    assert!(latencies.len() >= 30);
    // The round trip of the path is 10 ms.
    let least = Duration::from_millis(10);
    assert!(latencies.iter().all(|one| *one >= least), "{latencies:?}");
    // Each request of 200 bytes was answered by as many.
    assert!(echo.received() >= 40 * 200);
    crowd.stop()?;
    echo.stop()
}

#[test]
fn objects_come_on_fresh_and_on_kept_connections() -> Result<()> {
    require_lab!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let objects = server(&net.server, Service::Objects)?;
    let address = objects.at(net.server_addr());
    let kept = ObjectClient::connect(&net.client, address)?;
    // 30 Mbit/s carry this in 80 ms at best.
    let (size, least) = (300_000, Duration::from_millis(80));
    for _ in 0..3 {
        assert!(kept.fetch(size)? >= least);
        assert!(fetch_fresh(&net.client, address, size)? >= least);
    }
    assert_eq!(kept.wait_for_subflows(2, SOON)?.len(), 2);
    // Each request has eight bytes.
    assert_eq!(objects.received(), 6 * 8);
    objects.stop()
}

#[test]
fn frames_arrive_after_the_delay_of_the_path() -> Result<()> {
    require_lab!();
    let lab = Lab::new()?;
    let net = lab.two_hosts([Path::new("p1").delay_ms(10.0)])?;
    let receiver = server(&net.server, Service::Frames(8_000))?;
    let frames = Frames {
        bytes: 8_000,
        interval: Duration::from_millis(10),
        count: 20,
        sockets: Sockets::default(),
    };
    let frames = frames.start(&net.client, receiver.at(net.server_addr()))?;
    let arrivals = wait::try_until("the last frame", SOON, || match receiver.arrivals() {
        all if all.len() == 20 => Ok(all),
        some => Err(some.len()),
    })?;
    let ready = frames.finish()?;
    assert_eq!(ready.len(), 20);
    for (arrival, ready) in arrivals.iter().zip(&ready) {
        let taken = arrival.duration_since(*ready);
        assert!(taken >= Duration::from_millis(10), "{taken:?}");
    }
    receiver.stop()
}
