package draft

// Drafter guesses tokens. One goroutine uses it.
type Drafter interface {
	// Source says which drafter it is.
	Source() Source
	// Propose sets Draft of each lane to at most Most guesses, and Class. It allocates nothing. A lane whose Most is 0
	// takes part because the drafter may have to follow its sequence.
	Propose(lanes []*Lane) error
}

// Source is where guesses come from.
type Source uint8

// The sources.
const (
	NGram      Source = iota // earlier text of the same sequence
	Heads                    // layers of the model that predict further tokens
	OtherModel               // a second, smaller model
	NumSources
)

// String is the source's name in metrics and on the command line.
func (s Source) String() string { return [...]string{"ngram", "mtp", "draft"}[s] }

// Lane is one sequence as drafters see it. Its memory is kept for the sequence's whole life.
type Lane struct {
	Tokens []int32 // of the sequence, all but the last computed
	Most   int     // guesses wanted
	Draft  []int32 // the guesses that are to be checked; capacity for the most there may be
	Source Source  // of Draft
	Class  int     // how sure the source is, 0 to NumClasses-1; it means something to the source alone

	// What the model's last step computed of the sequence, for drafters that are models: rows [Row, Row+Kept) of its batch
	// are positions [Start, Start+Kept), with tokens that stay. Table has blocks for them, and maybe for some more.
	Item             int // of the step, for Pick
	Row, Start, Kept int
	Slot             int
	Table            []int32

	Drafted, Accepted int // guesses checked so far, and those of them that were right

	index    *Index // nil without prompt lookup
	expected int    // tokens of index that are not the sequence's

	seen     int     // positions that another model has in its cache,
	ahead    []int32 // and guesses behind them
	position int     // where the model's next step begins
	row      int     // of the lane's last token in the run of a Model; -1: none

	rates [NumSources][NumClasses]share // of the lane itself
	quiet int                           // proposals that were not checked since the last one that was
	pause int                           // how many of them until the next is tried all the same
	reach int                           // guesses of it that may be checked in the next step, as those before went

	right       float64 // while Control chooses: probability that a guess is right,
	next        float64 // that the next one brings a token,
	length      int     // the most guesses there may be,
	taken, keep int     // those taken so far, and those of the best choice so far
}

// NewLane returns the memory of a sequence that may have so many guesses at once.
func NewLane(most int) Lane {
	return Lane{Draft: make([]int32, 0, most), ahead: make([]int32, 0, most), reach: firstReach}
}
