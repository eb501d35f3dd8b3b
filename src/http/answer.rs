//! One request, and the page that answers it.
//!
//! The pages are a closed list ([`Page`]); they are read with GET or HEAD, and whatever else a request holds is not looked at.

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Response, StatusCode};
use prometheus_client::encoding::prometheus_text;
use tracing::warn;

use super::Door;
use super::pace::Turn;
use super::readiness::{Readiness, readiness};
use super::scrape::Scrape;
use crate::coordinator::desk::Closed;

pub type Answer = Response<Full<Bytes>>;

/// What there is to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Page {
    Metrics,
    /// The process lives.
    Health,
    /// It can serve clients.
    Ready,
}

impl Page {
    fn at(path: &str) -> Option<Self> {
        match path {
            "/metrics" => Some(Self::Metrics),
            "/healthz" => Some(Self::Health),
            "/readyz" => Some(Self::Ready),
            _ => None,
        }
    }
}

pub async fn answer(request: &Parts, door: &Door) -> Answer {
    let page = Page::at(request.uri.path());
    // Who asks whether the process lives does not wait for the long pages.
    let pace = if page == Some(Page::Metrics) { &door.pace } else { &door.short_pace };
    let mut turn = pace.turn().await;
    let Some(page) = page else {
        return words(StatusCode::NOT_FOUND, "there are /metrics, /healthz and /readyz");
    };
    if ![Method::GET, Method::HEAD].contains(&request.method) {
        let mut answer =
            words(StatusCode::METHOD_NOT_ALLOWED, "this page can be read only, with GET or HEAD");
        answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return answer;
    }
    let read = match page {
        Page::Health => return words(StatusCode::OK, "ok"),
        Page::Ready => ready(door).await,
        Page::Metrics => metrics(door, &mut turn).await,
    };
    read.unwrap_or_else(|closed| words(StatusCode::SERVICE_UNAVAILABLE, &closed.to_string()))
}

async fn ready(door: &Door) -> Result<Answer, Closed> {
    Ok(match readiness(&door.desk.overview().await?) {
        Readiness::Ready(said) => words(StatusCode::OK, &said),
        Readiness::NotReady(why) => words(StatusCode::SERVICE_UNAVAILABLE, &why),
    })
}

async fn metrics(door: &Door, turn: &mut Turn<'_>) -> Result<Answer, Closed> {
    let scrape = Scrape {
        overview: door.desk.overview().await?,
        workers: door.desk.workers().to_vec(),
        hosts_blocked: door.desk.hosts_blocked(),
        uptime: door.desk.started().elapsed(),
        matrixone_names: door.settings.matrixone_names,
    };
    Ok(match turn.work(|| scrape.render()) {
        Ok(text) => page(StatusCode::OK, prometheus_text::CONTENT_TYPE, text),
        Err(error) => {
            warn!("the metrics cannot be written: {error}");
            words(StatusCode::INTERNAL_SERVER_ERROR, "the metrics cannot be written")
        }
    })
}

fn words(status: StatusCode, said: &str) -> Answer {
    page(status, "text/plain; charset=utf-8", format!("{said}\n"))
}

fn page(status: StatusCode, kind: &'static str, text: String) -> Answer {
    let mut answer = Response::new(Full::from(text));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}
