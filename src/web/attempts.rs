//! How often a password may be tried: some times at once, then slowly; for each address and for all together.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use crate::token_bucket::TokenBucket;

/// Attempts a second in the long run from one address, and at once.
const ADDRESS: (f64, f64) = (1.0 / 20.0, 5.0);
/// The same for all addresses together.
const ALL: (f64, f64) = (1.0 / 2.0, 30.0);
/// Addresses that are remembered; further ones share what is left for all.
const ADDRESSES: usize = 1024;

/// Counts attempts. Time is handed in.
#[derive(Debug)]
pub struct Attempts {
    all: TokenBucket,
    addresses: HashMap<IpAddr, TokenBucket>,
}

impl Attempts {
    pub fn new(now: Instant) -> Attempts {
        Attempts { all: TokenBucket::new(ALL.0, ALL.1, now), addresses: HashMap::new() }
    }

    /// Counts one attempt from `address`.
    ///
    /// # Errors
    /// How long to wait: this one must not be looked at.
    pub fn take(&mut self, address: IpAddr, now: Instant) -> Result<(), Duration> {
        let address = network(address);
        if self.addresses.len() >= ADDRESSES && !self.addresses.contains_key(&address) {
            self.addresses.retain(|_, bucket| bucket.ready_at() > now);
        }
        let mut of_address = None;
        if self.addresses.len() < ADDRESSES || self.addresses.contains_key(&address) {
            let new = || TokenBucket::new(ADDRESS.0, ADDRESS.1, now);
            of_address = Some(self.addresses.entry(address).or_insert_with(new));
        }
        if let Some(bucket) = &mut of_address
            && !bucket.take(now)
        {
            return Err(bucket.ready_at().saturating_duration_since(now));
        }
        if self.all.take(now) {
            return Ok(());
        }
        if let Some(bucket) = of_address {
            bucket.give_back();
        }
        Err(self.all.ready_at().saturating_duration_since(now))
    }

    /// The last attempt from `address` was right: it does not count.
    pub fn give_back(&mut self, address: IpAddr) {
        self.all.give_back();
        if let Some(bucket) = self.addresses.get_mut(&network(address)) {
            bucket.give_back();
        }
    }
}

/// An IPv6 host has a whole /64 to choose from.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => IpAddr::V4(v4),
            None => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(number: u32) -> IpAddr {
        IpAddr::V4(std::net::Ipv4Addr::from_bits(number))
    }

    #[test]
    fn an_address_has_few_attempts_and_gets_more_with_time() {
        let mut now = Instant::now();
        let mut attempts = Attempts::new(now);
        for _ in 0..5 {
            assert_eq!(attempts.take(address(1), now), Ok(()));
        }
        let wait = attempts.take(address(1), now).expect_err("too many");
        assert_eq!(attempts.take(address(2), now), Ok(()));
        now += wait + Duration::from_millis(1);
        assert_eq!(attempts.take(address(1), now), Ok(()));
        assert!(attempts.take(address(1), now).is_err());
        attempts.give_back(address(1));
        assert_eq!(attempts.take(address(1), now), Ok(()));
    }

    #[test]
    fn many_addresses_share_a_limit_and_memory_is_bounded() {
        let mut now = Instant::now();
        let mut attempts = Attempts::new(now);
        let taken = (0..1000).filter(|&number| attempts.take(address(number), now).is_ok()).count();
        assert_eq!(taken, ALL.1 as usize);
        for number in 0..5000 {
            now += Duration::from_secs(2);
            let _ = attempts.take(address(number), now);
        }
        assert!(attempts.addresses.len() <= ADDRESSES);
    }

    #[test]
    fn an_ipv6_network_is_one_address() {
        let first = "2001:db8::1".parse().map(network);
        assert_eq!(first, "2001:db8::ffff:1".parse().map(network));
        assert_eq!("::ffff:10.0.0.1".parse().map(network), "10.0.0.1".parse());
    }
}
