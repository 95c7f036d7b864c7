//! The page: files that are part of the agent, and what browsers may do with them.

use axum::Router;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;

/// The content security policy of everything that the agent serves: a browser may load
/// the page's own files and ask the agent. No script or style is inline, nothing comes
/// from elsewhere, no other site may frame the page, and no text becomes HTML.
pub const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
     img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; \
     frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

/// The files: path, type, and text.
const FILES: [(&str, &str, &str); 7] = [
    ("/", HTML, include_str!("page/index.html")),
    ("/page/page.css", CSS, include_str!("page/page.css")),
    (
        "/page/icon.svg",
        "image/svg+xml",
        include_str!("page/icon.svg"),
    ),
    ("/page/page.js", SCRIPT, include_str!("page/page.js")),
    ("/page/dom.js", SCRIPT, include_str!("page/dom.js")),
    ("/page/format.js", SCRIPT, include_str!("page/format.js")),
    ("/page/views.js", SCRIPT, include_str!("page/views.js")),
];

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// Returns the routes of the page's files.
pub fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    let route = |router: Router<S>, (path, kind, text)| {
        router.route(path, get(move || async move { file(kind, text) }))
    };
    FILES.into_iter().fold(Router::new(), route)
}

/// Answers with a file. Browsers ask for it each time, so that all files are of one
/// version after an upgrade.
fn file(kind: &'static str, text: &'static str) -> impl IntoResponse {
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_need_nothing_from_elsewhere_and_have_nothing_inline() {
        for (path, kind, text) in FILES {
            assert!(text.len() < 40_000, "{path} is large");
            for (line, text) in text.lines().enumerate() {
                let foreign = text.contains("://") && !text.contains("http://www.w3.org/2000/svg");
                assert!(!foreign, "{path}:{}: {text}", line + 1);
            }
            if kind == HTML {
                for inline in ["<style", " style=", " onclick", "javascript:"] {
                    assert!(!text.contains(inline), "{path}: {inline}");
                }
                let scripts = text.matches("<script").count();
                assert_eq!(
                    scripts,
                    text.matches("<script type=\"module\" src=").count()
                );
            }
            for sink in [
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "document.write",
            ] {
                assert!(!text.contains(sink), "{path}: {sink}");
            }
        }
    }
}
