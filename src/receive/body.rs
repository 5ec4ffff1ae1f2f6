//! Reads a body whole, within its limits.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::Body as _;

use super::budget::{Budget, Share};
use crate::intake::Excess;

/// What one body may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Bytes.
    pub(super) body: usize,
    /// The moment at which its request is cut off.
    pub(super) until: Instant,
}

/// A body that was read, or the beginning of one that is too large.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) bytes: Bytes,
    pub(super) excess: Option<Excess>,
    /// What follows a body that is too large.
    pub(super) rest: Option<Body>,
    /// Counts its bytes.
    pub(super) share: Share,
}

/// Why a body was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReadError {
    /// It took too long.
    Slow,
    /// It had to make room for others.
    Cut,
    /// The connection ended, or its framing was wrong.
    Broken,
}

/// What is set aside for a body before any of it has come, whatever it announces.
const CAPACITY_MAX: usize = 16 << 10;
/// What is kept of a body that is too large.
const EXCESS_KEPT: usize = 64 << 10;
/// How much of its rest is still read, so that the answer is not lost in a reset, and for how long.
const REST_BYTES_MAX: u64 = 16 << 20;
const REST_TIME_MAX: Duration = Duration::from_secs(5);

pub(super) async fn read(mut body: Body, limits: Limits, budget: &Arc<Budget>) -> Result<Read, ReadError> {
    let mut share = budget.share();
    let announced = body.size_hint().lower();
    let too_large = announced > limits.body as u64;
    let keep_max = if too_large { EXCESS_KEPT } else { limits.body.max(EXCESS_KEPT) };
    let mut kept = BytesMut::with_capacity(usize::try_from(announced).unwrap_or(keep_max).min(CAPACITY_MAX));
    let mut read = 0_u64;
    while let Some(chunk) = next_chunk(&mut body, limits.until, &share).await? {
        read += chunk.len() as u64;
        let fits = chunk.len().min(keep_max.saturating_sub(kept.len()));
        within(limits.until, share.grow(fits)).await?;
        kept.extend_from_slice(&chunk[..fits]);
        if read > limits.body as u64 {
            // A copy: the beginning alone would hold on to all that was read.
            let bytes = Bytes::copy_from_slice(&kept[..kept.len().min(EXCESS_KEPT)]);
            share.finished_reading(bytes.len());
            let excess = Some(Excess { limit: limits.body, read });
            return Ok(Read { bytes, excess, rest: Some(body), share });
        }
    }
    share.finished_reading(kept.len());
    Ok(Read { bytes: kept.freeze(), excess: None, rest: None, share })
}

async fn within(until: Instant, grown: impl Future<Output = Result<(), ReadError>>) -> Result<(), ReadError> {
    tokio::time::timeout_at(until.into(), grown).await.map_err(|_| ReadError::Slow)?
}

async fn next_chunk(body: &mut Body, until: Instant, share: &Share) -> Result<Option<Bytes>, ReadError> {
    loop {
        let frame = tokio::select! {
            frame = body.frame() => frame,
            () = tokio::time::sleep_until(until.into()) => return Err(ReadError::Slow),
            () = share.cut() => return Err(ReadError::Cut),
        };
        match frame {
            None => return Ok(None),
            Some(Err(_)) => return Err(ReadError::Broken),
            // Trailers are no data.
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}

/// Reads on after the answer, within bounds, and throws it away.
pub(super) async fn drain(mut rest: Body) {
    let read_on = async {
        let mut read = 0;
        while let Some(Ok(frame)) = rest.frame().await {
            read += frame.data_ref().map_or(0, |data| data.len() as u64);
            if read > REST_BYTES_MAX {
                break;
            }
        }
    };
    // Whoever goes on sending after that loses the connection.
    let _ = tokio::time::timeout(REST_TIME_MAX, read_on).await;
}
