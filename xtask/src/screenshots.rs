//! `cargo xtask screenshots`: makes the pictures of the documentation: those of the
//! page in docs/images, and the screen of `top` in docs/top.md. Tests make them, in the
//! lab, with a real browser and in a pseudo-terminal, so that they show what the agent
//! does.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use xtask::{
    build,
    command::{self, Steps},
    machine::Machine,
    tools,
    workspace::Workspace,
};

/// The test that makes pictures of the page. It does nothing else, so it is ignored
/// otherwise.
const OF_THE_PAGE: &[&str] = &["--ignored", "page::screenshots::of_the_page"];
/// The test that writes the screen of `top` to the file that [`SCREEN`] names.
const OF_TOP: &[&str] = &["top::what_is_shown_is_what_the_agent_says"];
/// The variable that names that file.
const SCREEN: &str = "MPTCP_TOP_CAPTURE";

/// The lines before and after the screen in docs/top.md.
const BEGIN: &str = "<!-- cargo xtask screenshots writes this screen -->\n\n```text\n";
const END: &str = "```\n";

/// Runs `cargo xtask screenshots`.
///
/// # Errors
/// It is not run as root, or the build or the test fails.
pub fn run(machine: &Machine) -> Result<()> {
    ensure!(
        Machine::is_root(),
        "screenshots need root: the lab builds network namespaces and loads eBPF programs"
    );
    let workspace = Workspace::find()?;
    let mut steps = Steps::new(build::STEPS + 2);
    let built = build::agent(machine, &workspace, &mut steps)?;
    steps.next("commands that the tests use");
    tools::prepare(machine, &workspace)?;
    steps.next("screenshots");
    let screen = workspace.target.join("top.txt");
    for test in [OF_THE_PAGE, OF_TOP] {
        let mut cargo = built.cargo(&workspace);
        cargo
            .env("MPTCP_AGENT_BIN", &built.agent)
            .env("MPTCP_REQUIRE_ALL", "1")
            .env("PATH", tools::path(&workspace)?)
            .env(SCREEN, &screen)
            .args(["test", "--locked", "--release", "-p", "mptcp-tests"])
            .args(["--test", "e2e", "--", "--exact"])
            .args(test);
        command::run(&mut cargo)?;
    }
    put_screen(&workspace.root.join("docs/top.md"), &screen)?;
    println!("the pictures are in docs/images, and the screen of top in docs/top.md");
    Ok(())
}

/// Puts a screen into a page, in place of the one that is there.
fn put_screen(page: &Path, screen: &Path) -> Result<()> {
    let read = |file: &Path| {
        fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
    };
    let text = replaced(&read(page)?, &read(screen)?)
        .with_context(|| format!("{} has no place for a screen", page.display()))?;
    fs::write(page, text).with_context(|| format!("cannot write {}", page.display()))
}

/// Returns the text of a page with another screen; `None` if it has no place for one.
fn replaced(page: &str, screen: &str) -> Option<String> {
    let (before, rest) = page.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    let lines: Vec<&str> = screen.lines().map(str::trim_end).collect();
    let screen = lines.join("\n");
    Some(format!(
        "{before}{BEGIN}{}\n{END}{after}",
        screen.trim_end()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_screen_takes_the_place_of_the_one_before() {
        let page = format!("a\n{BEGIN}old\n{END}b\n");
        let once = replaced(&page, "PATH  \np1\n\n").expect("a place");
        assert_eq!(once, format!("a\n{BEGIN}PATH\np1\n{END}b\n"));
        assert_eq!(replaced(&once, "PATH\np1").as_deref(), Some(&*once));
        assert_eq!(replaced("a\n", "x"), None);
    }
}
