//! A headless Chromium on a host of the lab, driven over its DevTools protocol.
//!
//! Messages are JSON, each with a NUL at its end, over two pipes: so the browser
//! needs no port, and ends with the test.

use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::process::{ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Instant;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use mptcp_lab::{Host, Process, wait};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::SETTLE;

/// Debian's package of the same name has it.
pub(super) const CHROMIUM: &str = "chromium-headless-shell";

/// Returns from the test with a message if there is no browser.
macro_rules! require_browser {
    () => {
        mptcp_lab::require!(
            mptcp_lab::require::tool(crate::page::browser::CHROMIUM),
            "needs chromium-headless-shell (`cargo xtask test` installs Debian's package)"
        )
    };
}
pub(super) use require_browser;

/// A browser with one page. Dropping it ends it.
pub(super) struct Browser {
    input: ChildStdin,
    messages: Receiver<Value>,
    session: Option<String>,
    next: u64,
    complaints: Vec<String>,
    _process: Process,
    _profile: TempDir,
}

impl Browser {
    /// Starts a browser with an empty page.
    ///
    /// # Errors
    /// It ends, or does not answer.
    pub(super) fn start(host: &Host) -> Result<Self> {
        let profile = TempDir::new()?;
        let mut command = host.command("sh");
        command
            // The browser reads from descriptor 3 and writes to descriptor 4.
            .args(["-c", "exec \"$@\" 3<&0 4>&1 </dev/null >&2", "sh"])
            .args([CHROMIUM, "--remote-debugging-pipe", "--no-sandbox"])
            .args(["--disable-gpu", "--hide-scrollbars", "--no-first-run"])
            .args(["--disable-background-networking", "--no-proxy-server"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("about:blank")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let process = host.spawn(&mut command)?;
        let (input, output) = process.with_child(|child| (child.stdin.take(), child.stdout.take()));
        let mut browser = Self {
            input: input.context("no pipe")?,
            messages: messages(output.context("no pipe")?),
            session: None,
            next: 0,
            complaints: Vec::new(),
            _process: process,
            _profile: profile,
        };
        let page = browser.call("Target.createTarget", &json!({"url": "about:blank"}))?;
        let attach = json!({"targetId": page["targetId"], "flatten": true});
        let attached = browser.call("Target.attachToTarget", &attach)?;
        let session = attached["sessionId"].as_str().context("no session")?;
        browser.session = Some(session.to_owned());
        for domain in ["Page", "Runtime", "Log", "Accessibility"] {
            browser.call(&format!("{domain}.enable"), &json!({}))?;
        }
        Ok(browser)
    }

    /// Calls a method of the protocol, and returns its result.
    pub(super) fn call(&mut self, method: &str, params: &Value) -> Result<Value> {
        self.next += 1;
        let id = self.next;
        let mut message = json!({"id": id, "method": method, "params": params});
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        self.input.write_all(message.to_string().as_bytes())?;
        self.input.write_all(&[0])?;
        self.input.flush()?;
        let deadline = Instant::now() + SETTLE;
        loop {
            let mut message = self.message(deadline).context(method.to_owned())?;
            if message["id"] != id {
                continue;
            }
            ensure!(message["error"].is_null(), "{method}: {}", message["error"]);
            return Ok(message["result"].take());
        }
    }

    /// Returns the next message, after noting what it complains about.
    fn message(&mut self, deadline: Instant) -> Result<Value> {
        let left = deadline.saturating_duration_since(Instant::now());
        let message = match self.messages.recv_timeout(left) {
            Ok(message) => message,
            Err(RecvTimeoutError::Timeout) => bail!("the browser does not answer"),
            Err(RecvTimeoutError::Disconnected) => bail!("the browser has ended"),
        };
        let params = &message["params"];
        let complains = match message["method"].as_str() {
            Some("Runtime.exceptionThrown") => true,
            Some("Runtime.consoleAPICalled") => {
                ["error", "warning", "assert"].contains(&params["type"].as_str().unwrap_or(""))
            }
            Some("Log.entryAdded") => {
                ["error", "warning"].contains(&params["entry"]["level"].as_str().unwrap_or(""))
            }
            _ => false,
        };
        if complains {
            self.complaints.push(params.to_string());
        }
        Ok(message)
    }

    /// Returns the errors and warnings in the browser's console so far.
    pub(super) fn complaints(&mut self) -> Result<Vec<String>> {
        // Messages that came before this answer have been read by then.
        self.evaluate("0")?;
        Ok(self.complaints.clone())
    }

    /// Opens a page, and waits until it is loaded.
    pub(super) fn open(&mut self, url: &str) -> Result<()> {
        let result = self.call("Page.navigate", &json!({"url": url}))?;
        ensure!(result["errorText"].is_null(), "{url}: {result}");
        self.wait_for("document.readyState === 'complete'")
    }

    /// Returns the value of an expression of JavaScript; a promise is awaited.
    pub(super) fn evaluate(&mut self, expression: &str) -> Result<Value> {
        let params = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let mut result = self.call("Runtime.evaluate", &params)?;
        let thrown = &result["exceptionDetails"];
        ensure!(thrown.is_null(), "{expression}: {thrown}");
        Ok(result["result"]["value"].take())
    }

    /// Waits until an expression is true.
    ///
    /// # Errors
    /// It stays false; the error has the page's text.
    pub(super) fn wait_for(&mut self, expression: &str) -> Result<()> {
        let truth = format!("Boolean({expression})");
        let waited = wait::try_until(expression, SETTLE, || match self.evaluate(&truth) {
            Ok(Value::Bool(true)) => Ok(()),
            other => Err(other.map_err(|error| format!("{error:#}"))),
        });
        waited.with_context(|| {
            let text = self.evaluate("document.body.innerText");
            format!("the page: {text:#?}")
        })
    }

    /// Sets the size of the page, and whether it is dark.
    pub(super) fn show(&mut self, width: u32, height: u32, scheme: &str) -> Result<()> {
        let size =
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.call("Emulation.setDeviceMetricsOverride", &size)?;
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.call("Emulation.setEmulatedMedia", &features).map(drop)
    }

    /// Presses a key, such as `Tab` or `Enter`.
    pub(super) fn press(&mut self, key: &str, code: u32) -> Result<()> {
        let text = if key == "Enter" { "\r" } else { "" };
        for kind in ["keyDown", "keyUp"] {
            let params = json!({"type": kind, "key": key, "code": key, "text": text,
                                "windowsVirtualKeyCode": code});
            self.call("Input.dispatchKeyEvent", &params)?;
        }
        Ok(())
    }

    /// Returns the page as a PNG file: what a window of this size shows.
    pub(super) fn screenshot(&mut self) -> Result<Vec<u8>> {
        let params = json!({"format": "png", "optimizeForSpeed": false});
        let result = self.call("Page.captureScreenshot", &params)?;
        let data = result["data"].as_str().context("no picture")?;
        BASE64
            .decode(data)
            .map_err(|error| anyhow!("no picture: {error}"))
    }
}

/// Reads messages on a thread, until the browser closes its end.
fn messages(output: impl Read + Send + 'static) -> Receiver<Value> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for bytes in BufReader::new(output).split(0).map_while(Result::ok) {
            let Ok(message) = serde_json::from_slice(&bytes) else {
                continue;
            };
            if sender.send(message).is_err() {
                break;
            }
        }
    });
    receiver
}
