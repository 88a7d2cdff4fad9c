// Package rotation runs a rotator: it makes jobs of what is due, claims them, and takes each through its steps, at the database and at
// the secret's target, until it is done, gives up, or loses the claim.
//
// The steps themselves, their transactions and their evidence are internal/vault's. Here are their order, their time and what a failure
// means. Any number of rotators may run: what keeps them apart is in the database, and at the target.
//
// Invariants:
//   - I7: a job's steps are made under a claim that the database compares in each of them; a target refuses what is older than what it has.
//     A rotator whose lease may have lapsed by its own clock, taken before it asked for the lease, begins nothing more.
//   - I2: nothing is handed to a target before the record that says so is committed.
//   - I1: a failure's text holds nothing of a value, nor what a target sent beyond its code.
//   - No transaction is open while a target is spoken to.
package rotation
