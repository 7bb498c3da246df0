//! The table of connections: who is connected, how many per address, who goes first when there are too many (`A22`).

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use crate::model::{Flow, Transport};
use crate::transport::connection::Connection;
use crate::transport::counters::Closed;
use crate::transport::shared::lock;

/// All connections. Looked up by id in shards; counted and found by address in one index that only opening, closing, `flow_to` and
/// authentication touch. Bounded by the caps it is given.
pub(super) struct Table {
    shards: [Mutex<HashMap<u64, Arc<Connection>>>; SHARDS],
    index: Mutex<Index>,
    caps: Caps,
}

/// The caps of the table.
#[derive(Debug, Clone, Copy)]
pub(super) struct Caps {
    /// All connections. At most half of them may be made by us.
    pub(super) connections: usize,
    /// Unauthenticated connections per remote address.
    pub(super) unauthenticated_per_address: usize,
    /// Bytes that may wait for each.
    pub(super) write_buffer: usize,
}

/// No room for one more connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NoRoom;

/// A connection to a remote address: one that lives, or one that the caller must make now.
pub(super) enum Found {
    Live(Flow),
    New(Arc<Connection>),
}

struct Index {
    next: u64,
    total: usize,
    /// Made by us.
    made: usize,
    by_remote: HashMap<SocketAddr, Arc<Connection>>,
    /// Ids of accepted connections on which nobody authenticated, oldest first; every one is in its shard.
    unauthenticated: BTreeSet<u64>,
    per_address: HashMap<IpAddr, usize>,
}

impl Table {
    /// `base`: random; ids count up from it, so that those of another run never match.
    pub(super) fn new(base: u64, caps: Caps) -> Table {
        Table {
            shards: std::array::from_fn(|_| Mutex::default()),
            index: Mutex::new(Index {
                // Half of the numbers lie ahead, and 0 never comes.
                next: (base >> 1).max(1),
                total: 0,
                made: 0,
                by_remote: HashMap::new(),
                unauthenticated: BTreeSet::new(),
                per_address: HashMap::new(),
            }),
            caps,
        }
    }

    /// The connection with this id, if it lives.
    fn find(&self, id: u64) -> Option<Arc<Connection>> {
        lock(self.shard(id)).get(&id).cloned()
    }

    /// The connection of a flow: by its id, or by its remote address if it has none.
    pub(super) fn of(&self, flow: &Flow) -> Option<Arc<Connection>> {
        let connection = match flow.connection {
            0 => lock(&self.index).by_remote.get(&flow.remote).cloned(),
            id => self.find(id).filter(|connection| connection.flow().remote == flow.remote),
        };
        connection.filter(|connection| connection.is_open())
    }

    /// Enters an accepted connection. If the table is full the oldest unauthenticated one is closed for it.
    pub(super) fn accept(&self, local: SocketAddr, remote: SocketAddr) -> Result<Arc<Connection>, NoRoom> {
        let mut index = lock(&self.index);
        let address = counted_as(remote.ip());
        let count = index.per_address.get(&address).copied().unwrap_or(0);
        if count >= self.caps.unauthenticated_per_address {
            return Err(NoRoom);
        }
        self.make_room(&mut index)?;
        let connection = self.enter(&mut index, local, remote, false);
        index.unauthenticated.insert(connection.flow().connection);
        index.per_address.entry(address).and_modify(|n| *n = n.saturating_add(1)).or_insert(1);
        Ok(connection)
    }

    /// The live connection to this address, else a new one that the caller must make.
    pub(super) fn find_or_make(&self, local: SocketAddr, remote: SocketAddr) -> Result<Found, NoRoom> {
        let mut index = lock(&self.index);
        if let Some(live) = index.by_remote.get(&remote).filter(|c| c.is_open()) {
            return Ok(Found::Live(live.flow()));
        }
        if index.made >= (self.caps.connections / 2).max(1) {
            return Err(NoRoom);
        }
        self.make_room(&mut index)?;
        index.made = index.made.saturating_add(1);
        Ok(Found::New(self.enter(&mut index, local, remote, true)))
    }

    /// Somebody authenticated on this connection: it is no longer counted, nor evicted.
    pub(super) fn authenticated(&self, connection: &Connection) {
        if connection.set_authenticated() {
            lock(&self.index).forget_unauthenticated(&connection.flow());
        }
    }

    /// Takes a connection out. Harmless if it is out already.
    pub(super) fn remove(&self, connection: &Connection) {
        self.take_out(&mut lock(&self.index), connection.flow().connection);
    }

    /// Closes the oldest unauthenticated connection; false if there is none.
    pub(super) fn evict_oldest(&self) -> bool {
        self.evict(&mut lock(&self.index))
    }

    /// How many connections there are.
    pub(super) fn len(&self) -> usize {
        lock(&self.index).total
    }

    fn make_room(&self, index: &mut Index) -> Result<(), NoRoom> {
        while index.total >= self.caps.connections {
            if !self.evict(index) {
                return Err(NoRoom);
            }
        }
        Ok(())
    }

    fn evict(&self, index: &mut Index) -> bool {
        let oldest = index.unauthenticated.first().copied();
        let Some(evicted) = oldest.and_then(|id| self.take_out(index, id)) else { return false };
        evicted.close(Closed::Evicted);
        true
    }

    /// Index and shard change together, under the lock of the index.
    fn take_out(&self, index: &mut Index, id: u64) -> Option<Arc<Connection>> {
        let connection = lock(self.shard(id)).remove(&id)?;
        let flow = connection.flow();
        index.total = index.total.saturating_sub(1);
        if connection.made() {
            index.made = index.made.saturating_sub(1);
        }
        index.forget_unauthenticated(&flow);
        if index.by_remote.get(&flow.remote).is_some_and(|c| c.flow() == flow) {
            index.by_remote.remove(&flow.remote);
        }
        Some(connection)
    }

    fn enter(&self, index: &mut Index, local: SocketAddr, remote: SocketAddr, made: bool) -> Arc<Connection> {
        let id = index.next;
        index.next = id.checked_add(1).unwrap_or(1);
        index.total = index.total.saturating_add(1);
        let flow = Flow { transport: Transport::Tcp, local, remote, connection: id };
        let connection = Arc::new(Connection::new(flow, made, self.caps.write_buffer));
        index.by_remote.insert(remote, Arc::clone(&connection));
        lock(self.shard(id)).insert(id, Arc::clone(&connection));
        connection
    }

    fn shard(&self, id: u64) -> &Mutex<HashMap<u64, Arc<Connection>>> {
        // The remainder is below SHARDS, and fits.
        &self.shards[usize::try_from(id % SHARDS as u64).unwrap_or(0)]
    }
}

impl Index {
    fn forget_unauthenticated(&mut self, flow: &Flow) {
        if !self.unauthenticated.remove(&flow.connection) {
            return;
        }
        let address = counted_as(flow.remote.ip());
        let left = self.per_address.get(&address).copied().unwrap_or(0).saturating_sub(1);
        if left == 0 {
            self.per_address.remove(&address);
        } else {
            self.per_address.insert(address, left);
        }
    }
}

/// What counts as one address: an IPv6 host commonly has a whole /64 to itself.
fn counted_as(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

/// Shards of the lookup by id.
const SHARDS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn table(connections: usize, unauthenticated_per_address: usize) -> Table {
        Table::new(u64::MAX, Caps { connections, unauthenticated_per_address, write_buffer: 100 })
    }

    fn address(n: u8, port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, n], port))
    }

    fn local() -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 200], 5060))
    }

    #[test]
    fn ids_count_up_from_the_base_and_are_never_zero() {
        let table = Table::new(0, Caps { connections: 9, unauthenticated_per_address: 9, write_buffer: 1 });
        let first = table.accept(local(), address(1, 1)).expect("room").flow().connection;
        let second = table.accept(local(), address(1, 2)).expect("room").flow().connection;
        assert_eq!((first, second), (1, 2));
        assert_ne!(
            Table::new(7_000, table.caps).accept(local(), address(1, 1)).expect("room").flow().connection,
            1
        );
    }

    #[test]
    fn unauthenticated_connections_per_address_are_capped_a22() {
        let table = table(100, 2);
        let first = table.accept(local(), address(1, 1)).expect("room");
        table.accept(local(), address(1, 2)).expect("room");
        assert!(table.accept(local(), address(1, 3)).is_err());
        table.accept(local(), address(2, 3)).expect("another address");
        table.authenticated(&first);
        let third = table.accept(local(), address(1, 3)).expect("one of two authenticated");
        assert!(table.accept(local(), address(1, 4)).is_err());
        table.remove(&third);
        table.remove(&third);
        table.accept(local(), address(1, 4)).expect("one left");
        assert!(table.accept(local(), address(1, 5)).is_err());
    }

    #[test]
    fn addresses_of_one_ipv6_network_count_as_one() {
        let table = table(100, 1);
        let remote = |text: &str| text.parse::<SocketAddr>().expect("address");
        table.accept(local(), remote("[2001:db8::1]:1")).expect("room");
        assert!(table.accept(local(), remote("[2001:db8::2]:1")).is_err());
        table.accept(local(), remote("[2001:db8:0:1::2]:1")).expect("another network");
    }

    #[test]
    fn a_full_table_evicts_the_oldest_unauthenticated_a22() {
        let table = table(3, 10);
        let first = table.accept(local(), address(1, 1)).expect("room");
        let second = table.accept(local(), address(1, 2)).expect("room");
        let third = table.accept(local(), address(1, 3)).expect("room");
        table.authenticated(&first);
        table.accept(local(), address(1, 4)).expect("room is made");
        assert!(first.is_open() && !second.is_open() && third.is_open());
        assert!(table.of(&second.flow()).is_none());
        assert_eq!(table.len(), 3);
    }

    #[test]
    fn a_table_full_of_authenticated_connections_refuses() {
        let table = table(1, 10);
        let only = table.accept(local(), address(1, 1)).expect("room");
        table.authenticated(&only);
        assert!(table.accept(local(), address(1, 2)).is_err());
        assert!(table.find_or_make(local(), address(1, 3)).is_err());
        table.remove(&only);
        assert_eq!(table.len(), 0);
        table.accept(local(), address(1, 2)).expect("room again");
    }

    #[test]
    fn a_live_connection_to_an_address_is_used_again_accepted_or_made() {
        let table = table(10, 10);
        let accepted = table.accept(local(), address(1, 1)).expect("room");
        let Ok(Found::Live(flow)) = table.find_or_make(local(), address(1, 1)) else { panic!("accepted") };
        assert_eq!(flow, accepted.flow());
        let Ok(Found::New(made)) = table.find_or_make(local(), address(1, 2)) else { panic!("new") };
        let Ok(Found::Live(flow)) = table.find_or_make(local(), address(1, 2)) else { panic!("made") };
        assert_eq!(flow, made.flow());
        made.close(Closed::Reset);
        let Ok(Found::New(again)) = table.find_or_make(local(), address(1, 2)) else { panic!("anew") };
        table.remove(&made);
        assert!(table.of(&again.flow()).is_some());
    }

    #[test]
    fn at_most_half_of_the_table_is_made_by_us() {
        let table = table(4, 10);
        assert!(matches!(table.find_or_make(local(), address(1, 1)), Ok(Found::New(_))));
        assert!(matches!(table.find_or_make(local(), address(1, 2)), Ok(Found::New(_))));
        assert!(table.find_or_make(local(), address(1, 3)).is_err());
    }
}
