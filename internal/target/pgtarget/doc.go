// Package pgtarget changes the password of a role on a PostgreSQL that isn't the vault's, and finds out whether a password works
// there.
//
// It speaks the few messages of the protocol that this takes by itself (with pgproto3's encoding) instead of through pgconn: that
// reads PG* variables, service files and .pgpass, can answer a server that asks for a password in clear, and sends cancel requests
// from a goroutine of its own.
//
// Invariants:
//   - I1: no password leaves the process in any form but a SCRAM proof, and the verifier of a new one. There is no code here that
//     could send one in clear or as MD5, whatever a server asks for. The text of an error holds neither a password nor a user, nor
//     anything that a server sent but its SQLSTATE.
//   - I7: in one transaction, a role's password and its generation are set together, and only if the generation is newer than the
//     one that the role has; both are read again after the change holds the role's row, so that nobody comes between.
//   - I4: a server proves its name by TLS (verify-full), except on a loopback address that offers none, and its knowledge of the
//     verifier by its SCRAM signature. One that lets anybody in is refused: a password that it takes proves nothing.
//   - Nothing in the environment, in the home directory or in the role's or database's settings changes any of this.
//   - An operation uses connections of its own and returns when they are closed; all of it together is bounded by its timeout.
//
// What the login needs, on PostgreSQL 15 or newer, where <role> is whose password is changed. The role itself:
//
//	GRANT SET ON PARAMETER "sealkeep.generation" TO <role>;
//
// Up to 15 a role with REPLICATION can't change its own password; a superuser has to. Another login, which is not
// a superuser:
//
//	ALTER ROLE <login> CREATEROLE;
//	GRANT SET ON PARAMETER "sealkeep.generation" TO <login>;
//	GRANT <role> TO <login> WITH ADMIN OPTION; -- from 16 on, unless <login> has created <role>
//
// Before 15 only a superuser could set the generation. Only a superuser may change a superuser's password.
//
// Passwords are ASCII without NUL: those are the same bytes before and after SASLprep, and to every client. Others are refused.
package pgtarget
