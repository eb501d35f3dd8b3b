//! Writes families of metrics: a name, what it means, its samples.
//!
//! A thin layer over the encoder of `prometheus-client`, which knows the format: it adds `_total` to the name of a counter
//! and escapes what stands in labels. The names here are without that.

use std::fmt::Result;

use prometheus_client::encoding::{DescriptorEncoder, EncodeGaugeValue, NoLabelSet};
use prometheus_client::metrics::MetricType;

use crate::metrics::PauseSummary;

/// The labels of a sample.
pub type Labels<'l> = Vec<(&'static str, &'l str)>;

/// How long pauses are told apart, in microseconds: 20 bounds from 10 us on, each twice the one before, up to 5.2 s. These are
/// the bounds of MatrixOne's proxy, and each of them begins a bucket of [`crate::metrics::Pauses`], so the counts are exact.
const PAUSE_BOUNDS: u32 = 20;
const FIRST_PAUSE_BOUND: u64 = 10;

const MICROS: f64 = 1e6;

/// A page that families are added to.
pub struct Families<'e>(pub DescriptorEncoder<'e>);

impl Families<'_> {
    pub fn counter<'l>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Labels<'l>, u64)>,
    ) -> Result {
        self.counts(MetricType::Counter, name, help, samples)
    }

    /// A counter whose name does not end with `_total`. The format's encoder knows of none, so its type stays untold.
    pub fn untyped<'l>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Labels<'l>, u64)>,
    ) -> Result {
        self.counts(MetricType::Unknown, name, help, samples)
    }

    pub fn gauge<'l, V: EncodeGaugeValue>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Labels<'l>, V)>,
    ) -> Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in samples {
            family.encode_family(&labels)?.encode_gauge(&value)?;
        }
        Ok(())
    }

    /// A histogram of pauses, in seconds.
    pub fn pauses(&mut self, name: &str, help: &str, pauses: &PauseSummary) -> Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Histogram)?;
        let mut below = 0;
        let buckets = (0..PAUSE_BOUNDS).map(|nth| {
            let bound = FIRST_PAUSE_BOUND << nth;
            let former = std::mem::replace(&mut below, pauses.shorter_than(bound));
            (bound as f64 / MICROS, below - former)
        });
        let buckets: Vec<_> = buckets.collect();
        family.encode_histogram::<NoLabelSet>(pauses.total() as f64 / MICROS, pauses.count(), &buckets, None)
    }

    fn counts<'l>(
        &mut self,
        kind: MetricType,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Labels<'l>, u64)>,
    ) -> Result {
        let mut family = self.0.encode_descriptor(name, help, None, kind)?;
        for (labels, value) in samples {
            family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&value, None)?;
        }
        Ok(())
    }
}
