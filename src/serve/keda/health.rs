//! `grpc.health.v1.Health`: serving as `/readyz` says. Watches end when the listeners close, so that nobody who
//! watches holds up the stop.

use std::pin::Pin;

use futures::{Stream, StreamExt};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
use tonic_health::server::{HealthReporter, HealthService};

/// The service that reads what the reporter is told.
pub(super) fn service(reporter: HealthReporter, closing: CancellationToken) -> HealthServer<Ending> {
    HealthServer::new(Ending { inner: HealthService::from_health_reporter(reporter), closing })
}

#[derive(Debug)]
pub(super) struct Ending {
    inner: HealthService,
    closing: CancellationToken,
}

type Watch = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

#[tonic::async_trait]
impl Health for Ending {
    type WatchStream = Watch;

    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        self.inner.check(request).await
    }

    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Watch>, Status> {
        let closed = self.closing.clone().cancelled_owned();
        Ok(self.inner.watch(request).await?.map(|stream| -> Watch { Box::pin(stream.take_until(closed)) }))
    }
}
