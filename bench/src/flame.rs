//! Turns `perf script` output into a flame graph, so that drawing one needs no further tool.
//!
//! Frames come in as perf unwound them; this only folds equal stacks and draws. It records nothing.

use std::fs::File;
use std::io::{self, BufReader, BufWriter};
use std::path::PathBuf;

use inferno::collapse::Collapse;
use inferno::collapse::perf::Folder;
use inferno::flamegraph;

#[derive(clap::Args, Clone)]
pub struct Options {
    /// Output of `perf script`; standard input when left out.
    #[arg(long)]
    pub input: Option<PathBuf>,
    /// The SVG to write.
    #[arg(long)]
    pub out: PathBuf,
    #[arg(long, default_value = "a corelane worker")]
    pub title: String,
}

/// Reads, folds, draws.
pub fn run(options: &Options) -> io::Result<()> {
    let mut folded = vec![];
    match &options.input {
        Some(path) => Folder::default().collapse(BufReader::new(File::open(path)?), &mut folded)?,
        None => Folder::default().collapse(io::stdin().lock(), &mut folded)?,
    }
    let mut drawing = flamegraph::Options::default();
    drawing.title.clone_from(&options.title);
    drawing.hash = true;
    // With the cpu-clock event perf weighs each sample by its time.
    "ns".clone_into(&mut drawing.count_name);
    let svg = BufWriter::new(File::create(&options.out)?);
    flamegraph::from_reader(&mut drawing, folded.as_slice(), svg).map_err(io::Error::other)
}
