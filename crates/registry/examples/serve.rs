//! A registry in a folder: `serve FOLDER ADDRESS`.

use std::error::Error;

use onetag_registry::server::{Options, Server};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let root = arguments.next().ok_or("usage: serve FOLDER ADDRESS")?;
    let mut options = Options::new(root);
    options.address = arguments.next().ok_or("usage: serve FOLDER ADDRESS")?.parse()?;
    Server::bind(&options)?.run_until_signal()?;
    Ok(())
}
