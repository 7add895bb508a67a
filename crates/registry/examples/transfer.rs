//! Times the client: `transfer manifest REFERENCE` or `transfer blob REPOSITORY DIGEST SIZE [COUNT]`.

use std::error::Error;
use std::time::Instant;

use onetag_oci::{Descriptor, Reference};
use onetag_registry::{BlobSink, Client, ClientOptions};

struct Nowhere;

impl BlobSink for Nowhere {
    fn write(&mut self, _: &[u8]) -> std::io::Result<()> {
        Ok(())
    }

    fn restart(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let started = Instant::now();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let client = Client::new(ClientOptions::default());
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["manifest", reference] => {
            let document = client.manifest(&Reference::parse(reference)?)?;
            println!("{} in {:?}", document.digest(), started.elapsed());
        }
        ["blob", repository, digest, size, rest @ ..] => {
            let descriptor = Descriptor::new("application/octet-stream", digest.parse()?, size.parse()?);
            let repository = Reference::parse(repository)?;
            let count: u32 = rest.first().map_or(Ok(1), |count| count.parse())?;
            for _ in 0..count {
                let started = Instant::now();
                client.fetch_blob(&repository, &descriptor, &mut Nowhere)?;
                println!("{:.0} MB/s", descriptor.size as f64 / 1e6 / started.elapsed().as_secs_f64());
            }
        }
        _ => return Err("usage: transfer manifest REFERENCE | blob REPOSITORY DIGEST SIZE [COUNT]".into()),
    }
    Ok(())
}
