module github.com/sealkeep/sealkeep/test

go 1.26

require github.com/sealkeep/sealkeep v0.0.0

replace github.com/sealkeep/sealkeep => ../
