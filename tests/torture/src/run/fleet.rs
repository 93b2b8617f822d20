//! The cluster: Postgres, coordinators and edges, with a link that can be broken between any two of them.

use std::time::{Duration, Instant};

use edgekeep_tests::client::{Client, login_request};
use edgekeep_tests::clock::Clock;
use edgekeep_tests::http::{Kept, Request};
use edgekeep_tests::random_hex;
use edgekeep_tests::sql::Sql;
use edgekeep_tests::world::{World, at};
use xtask::postgres::Server;

use super::link::Link;
use super::{Failover, Plan};
use xtask::state::User;

/// The parts and the links between them.
pub struct Fleet {
    /// The parts.
    pub world: World,
    /// Coordinator to Postgres, by coordinator.
    pub to_database: Vec<Link>,
    /// Edge to coordinator, by edge and coordinator.
    pub to_coordinator: Vec<Vec<Link>>,
    /// Client to edge, by edge.
    pub to_edge: Vec<Link>,
    /// The command line to Postgres.
    pub of_command_line: Link,
    /// The standby and its link to the primary, until it is promoted.
    pub standby: Option<(Server, Link)>,
    /// The clock of the last edge.
    pub clock: Clock,
}

/// A route that wants the role, current now.
const STRICT_ROLE: &str = r#"{ "path": "/echo/**", "access": { "roles": ["admin"] }, "max_staleness_ms": 0 }"#;

impl Fleet {
    /// Starts everything.
    #[must_use]
    pub fn start(plan: &Plan) -> Self {
        let policy = xtask::parts::policy().expect("the example's policy");
        let policy = policy.replace(r#"{ "path": "/echo/**", "access": "session" }"#, STRICT_ROLE);
        assert!(policy.contains(STRICT_ROLE), "the example's policy has changed");
        let mut world = World::start("torture", |options| {
            options.coordinators = plan.coordinators;
            options.edges = 0;
            options.max_staleness_ms = Some(plan.max_staleness_ms);
            options.settings = plan.settings();
            options.coordinator_environment = plan.coordinator_environment();
            options.edge_variables = plan.edge_variables();
            options.policy = Some(policy);
        });
        let database = world.cluster.postgres.as_ref().expect("a Postgres of its own").port();
        let of_command_line = Link::to(at(database));
        let elsewhere =
            |text: &str, link: &Link| text.replace(&format!(":{database}/"), &format!(":{}/", link.address.port()));
        let config = world.cluster.folder().join("edgekeep.toml");
        let text = std::fs::read_to_string(&config).expect("the configuration");
        std::fs::write(&config, elsewhere(&text, &of_command_line)).expect("written");
        let standby = plan.failover.is_some().then(|| {
            let link = Link::to(at(database));
            let primary = world.cluster.postgres.as_mut().expect("a Postgres of its own");
            let standby = primary.make_standby(link.address.port()).expect("a standby");
            if plan.failover != Some(Failover::Asynchronous) {
                let mut sql = Sql::connect(world.cluster.database_url());
                sql.run("ALTER SYSTEM SET synchronous_standby_names = '*'");
                sql.run("SELECT pg_reload_conf()");
            }
            (standby, link)
        });
        let mut to_database = Vec::new();
        for index in 0..plan.coordinators {
            let link = Link::to(at(database));
            let url = elsewhere(world.cluster.database_url(), &link);
            let node = &mut world.cluster.coordinators[index];
            let recipe = node.part.recipe().clone().env("EDGEKEEP_DATABASE_URL", url);
            node.kill();
            node.part = recipe.start().expect("the coordinator starts");
            to_database.push(link);
        }
        for node in &mut world.cluster.coordinators {
            node.wait().expect("the coordinator gets ready");
        }
        let mut to_coordinator = Vec::new();
        let mut clock = None;
        for edge in 0..plan.edges {
            let links: Vec<Link> = (0..plan.coordinators).map(|index| Link::to(world.coordinator(index))).collect();
            // Each prefers another one.
            let urls: Vec<String> =
                (0..links.len()).map(|n| format!("http://{}", links[(n + edge) % links.len()].address)).collect();
            if edge + 1 == plan.edges {
                clock = Some(world.add_edge_with_clock(0, |setup| setup.coordinator_urls = urls).1);
            } else {
                world.add_edge(|setup| setup.coordinator_urls = urls);
            }
            to_coordinator.push(links);
        }
        let to_edge = (0..plan.edges).map(|edge| Link::to(world.edge(edge))).collect();
        let clock = clock.expect("at least one edge");
        Self { world, to_database, to_coordinator, to_edge, of_command_line, standby, clock }
    }

    /// The database that counts, without any link.
    #[must_use]
    pub fn database_url(&self) -> String {
        let server = self.world.cluster.postgres.as_ref().expect("a Postgres of its own");
        server.url(xtask::postgres::DATABASE)
    }

    /// Nothing reaches the standby any more.
    pub fn hold_standby_back(&self) {
        if let Some((_, link)) = &self.standby {
            link.silence();
        }
    }

    /// The standby becomes the primary. Gives the old one, which is killed when it is dropped: with [`Failover::LivesOn`] it
    /// is cut off from its standby, and the first coordinator stays with it; else it is dead already.
    pub fn promote(&mut self, how: Failover) -> Option<Server> {
        let (mut standby, link) = self.standby.take()?;
        let lives_on = how == Failover::LivesOn;
        let postgres = &mut self.world.cluster.postgres;
        if !lives_on && let Some(primary) = postgres {
            primary.kill();
        }
        link.cut();
        standby.part().thaw();
        Sql::connect(&standby.url(xtask::postgres::DATABASE)).run("SELECT pg_promote()");
        let target = at(standby.port());
        let stays = usize::from(lives_on);
        for link in self.to_database.iter().skip(stays).chain([&self.of_command_line]) {
            link.lead_to(target);
        }
        postgres.replace(standby)
    }

    /// The first coordinator finds the new primary as well.
    pub fn follow(&self) {
        if let (Some(first), Some(postgres)) = (self.to_database.first(), &self.world.cluster.postgres) {
            first.lead_to(at(postgres.port()));
        }
    }

    /// Every link.
    pub fn links(&self) -> impl Iterator<Item = &Link> {
        self.to_database.iter().chain(self.to_coordinator.iter().flatten()).chain(&self.to_edge)
    }

    /// Heals everything, starts what is dead, and waits until all of it answers; notes how that goes.
    ///
    /// # Errors
    /// What does not.
    pub fn heal(&mut self, canary: &User, mut note: impl FnMut(&str)) -> anyhow::Result<()> {
        for link in self.links() {
            link.renew();
        }
        let cluster = &mut self.world.cluster;
        if let Some(postgres) = &mut cluster.postgres
            && postgres.part().ended().is_some()
        {
            postgres.start_again()?;
        }
        for node in cluster.coordinators.iter_mut().chain(&mut cluster.edges) {
            node.part.thaw();
            if node.part.ended().is_some() {
                node.part.start_again()?;
            }
        }
        let deadline = Instant::now() + Duration::from_secs(60);
        for node in cluster.coordinators.iter_mut().chain(&mut cluster.edges) {
            // A coordinator that finds no database when it starts gives up, and whoever runs it starts it again.
            while let Err(error) = node.wait() {
                if node.part.ended().is_none() || Instant::now() > deadline {
                    return Err(error);
                }
                node.part.start_again()?;
            }
        }
        note("all parts are ready");
        for (number, link) in self.to_edge.iter().enumerate() {
            // It signs somebody in and answers for the session, twice in a row.
            let deadline = Instant::now() + Duration::from_secs(120);
            let (mut in_a_row, mut said) = (0, String::new());
            while in_a_row < 2 {
                anyhow::ensure!(Instant::now() < deadline, "edge {} does not recover: {said}", number + 1);
                (in_a_row, said) = match works(link.address, canary) {
                    Ok(()) => (in_a_row + 1, said),
                    Err(what) => {
                        note(&format!("edge {} does not work yet: {what}", number + 1));
                        (0, what)
                    }
                };
            }
        }
        Ok(())
    }
}

fn works(edge: std::net::SocketAddr, canary: &User) -> Result<(), String> {
    let mut connection = Kept::patient_for(edge, Duration::from_secs(12));
    let mut client = Client::new();
    let login = connection.send(&login_request(canary, &random_hex(16))).map_err(|error| error.to_string())?;
    client.jar.take(&login);
    if login.status != 200 {
        return Err(login.text());
    }
    let strict = connection.send(&client.with_cookies(Request::get("/strict"))).map_err(|error| error.to_string())?;
    if strict.status == 200 { Ok(()) } else { Err(strict.text()) }
}
