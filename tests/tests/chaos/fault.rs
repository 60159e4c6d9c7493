//! Faults that can be drawn.

/// Part of the system. Two faults of one part do not happen at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Interface,
    Upstream,
    Redis,
    ClickHouse,
    Disk,
    Log,
    Configuration,
    Process,
    Clock,
    Cpu,
    Memory,
}

/// Fault of the host, of a server, or of what somebody does to ringdnsd.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// The link goes down.
    LinkDown,
    /// The interface is removed, and made anew with the same number of queues.
    Removed,
    /// The interface is removed, and made anew with one queue instead of two.
    FewerQueues,
    /// The interface is moved to another network namespace, and back.
    Moved,
    /// Another process holds the interface when it is made anew.
    ForeignProgram,
    /// Somebody detaches the XDP program.
    Detached,
    /// The MTU becomes 1280 bytes.
    SmallMtu,
    /// The address that clients ask is removed, and comes late.
    AddressGone,
    /// The only upstream does not answer.
    UpstreamSilent,
    /// The only upstream answers SERVFAIL.
    UpstreamFails,
    /// Redis is killed.
    RedisKilled,
    /// Redis stands still.
    RedisFrozen,
    /// Redis has no memory for new values.
    RedisFull,
    /// ClickHouse is killed.
    ClickHouseKilled,
    /// ClickHouse stands still.
    ClickHouseFrozen,
    /// The disk of the spool and the snapshot is full.
    DiskFull,
    /// The reader of the log stands still.
    LogBlocked,
    /// The configuration changes.
    Reloaded,
    /// The configuration is changed to one that is refused.
    ReloadRefused,
    /// The cache is purged.
    Purged,
    /// ringdnsd stands still.
    Frozen,
    /// The wall clock steps by an hour.
    ClockForward,
    /// The wall clock steps back by an hour.
    ClockBack,
    /// The cgroup of ringdnsd may use a fifth of a processor.
    CpuLimited,
    /// The cgroup of ringdnsd may have hardly more memory than it uses.
    MemoryLimited,
}

impl Fault {
    /// All faults.
    pub const ALL: [Fault; 25] = {
        use Fault::*;
        [
            LinkDown,
            Removed,
            FewerQueues,
            Moved,
            ForeignProgram,
            Detached,
            SmallMtu,
            AddressGone,
            UpstreamSilent,
            UpstreamFails,
            RedisKilled,
            RedisFrozen,
            RedisFull,
            ClickHouseKilled,
            ClickHouseFrozen,
            DiskFull,
            LogBlocked,
            Reloaded,
            ReloadRefused,
            Purged,
            Frozen,
            ClockForward,
            ClockBack,
            CpuLimited,
            MemoryLimited,
        ]
    };

    /// Returns the part of the system that it happens to.
    pub fn part(self) -> Part {
        use Fault::*;
        match self {
            LinkDown | Removed | FewerQueues | Moved | ForeignProgram | Detached | SmallMtu | AddressGone => {
                Part::Interface
            }
            UpstreamSilent | UpstreamFails => Part::Upstream,
            RedisKilled | RedisFrozen | RedisFull => Part::Redis,
            ClickHouseKilled | ClickHouseFrozen => Part::ClickHouse,
            DiskFull => Part::Disk,
            LogBlocked => Part::Log,
            Reloaded | ReloadRefused | Purged => Part::Configuration,
            Frozen => Part::Process,
            ClockForward | ClockBack => Part::Clock,
            CpuLimited => Part::Cpu,
            MemoryLimited => Part::Memory,
        }
    }
}
