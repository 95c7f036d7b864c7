//! Prints the protocol of a new TCP socket, waits for the end of stdin, and prints it
//! again. Ends with the exit code 7.
//!
//! It is a program of its own because the guest's other programs are static where they
//! are built for another architecture, and `mptcp-agent exec` puts its preload library
//! only into programs that are not.

use std::io::{self, Read as _, Write as _};
use std::process::ExitCode;

use socket2::{Domain, Socket, Type};

fn main() -> io::Result<ExitCode> {
    show()?;
    io::stdin().read_to_end(&mut Vec::new())?;
    show()?;
    Ok(ExitCode::from(7))
}

fn show() -> io::Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    let protocol = socket.protocol()?.map(i32::from);
    println!("{}", protocol.unwrap_or_default());
    io::stdout().flush()
}
