//! Makes the pictures of the documentation: `cargo xtask screenshots`.

use std::fs;
use std::path::Path;

use anyhow::{Result, ensure};

use super::Scene;
use super::browser::require_browser;
use crate::support::{require_agent, upload};

/// The most bytes of a picture.
const LARGEST: usize = 200_000;

#[test]
#[ignore = "it writes docs/images; `cargo xtask screenshots` runs it"]
fn of_the_page() -> Result<()> {
    let binary = require_agent!();
    require_browser!();
    let mut scene = Scene::new(&binary)?;
    let (_sink, transfer) = upload(&scene.net, 2)?;
    scene.settle(&transfer)?;
    let (_other_sink, other) = upload(&scene.net, 2)?;
    // The drawings of the rates fill up, one point a second.
    let points = "document.querySelector('.spark .received').points.length >= 45";
    scene
        .browser
        .wait_for(points)
        .or_else(|_| scene.browser.wait_for(points))?;
    let images = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/images");
    fs::create_dir_all(&images)?;
    for (name, width, height, scheme) in [
        ("page-light.png", 1080, 1100, "light"),
        ("page-dark.png", 1080, 1100, "dark"),
        ("page-narrow.png", 360, 780, "light"),
    ] {
        scene.browser.show(width, height, scheme)?;
        let picture = scene.browser.screenshot()?;
        ensure!(
            picture.len() < LARGEST,
            "{name} has {} bytes",
            picture.len()
        );
        fs::write(images.join(name), picture)?;
    }
    transfer.stop()?;
    other.stop()?;
    scene.agent.stop()
}
