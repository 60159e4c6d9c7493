//! Times of the pieces whose instructions `bench/gate.sh` counts: `cargo bench -p ringdns-bench`.

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use ringdns_bench::instructions::{Piece, Timing};
use std::time::Duration;

fn pieces(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pieces");
    // Each sample sets up the pieces' data afresh, which takes far longer than the pieces
    // themselves.
    group.sample_size(20).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    for piece in Piece::all() {
        group.bench_function(BenchmarkId::from_parameter(piece.name()), |bencher| {
            bencher.iter_custom(|iterations| {
                let mut meter = Timing::default();
                let mut operations = 0;
                for _ in 0..iterations {
                    operations = piece.run(&mut meter).expect("a piece failed");
                }
                // Time of one operation.
                meter.spent / operations as u32
            });
        });
    }
    group.finish();
}

criterion_group!(benches, pieces);
criterion_main!(benches);
