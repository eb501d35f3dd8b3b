//! tmp
mod client;
mod memory;
mod server;
mod session;
mod sql;
use fastrand::Rng;
use session::*;

#[test]
fn talk_only() {
    let seed: u64 = std::env::var("CORELANE_SIM_SEED").map_or(1, |s| s.parse().unwrap());
    let mut moved = 0;
    let mut stays = std::collections::BTreeMap::<String, u32>::new();
    for n in 0..300 {
        println!("session {n}");
        let mut rng = Rng::with_seed(seed * 1000 + n);
        let mut talk = Talk::new(&mut rng, n % 20 != 0);
        for _ in 0..80 {
            let burst = talk.client.burst(&mut rng);
            if rng.usize(..4) == 0 && talk.allows(Some(&burst)).is_ok() {
                assert_eq!(talk.twin.diagnostics.warnings, 0);
                match talk.carry_over(rng.u32(..100), false, rng.usize(..10) == 0) {
                    Ok(()) => moved += 1,
                    Err(why) => *stays.entry(format!("{why:?}")).or_default() += 1,
                }
            }
            println!("{burst:?}");
            talk.exchange(&burst, &mut rng);
            talk.check();
        }
    }
    println!("{moved} {stays:#?}");
}
