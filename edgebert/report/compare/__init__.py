"""Two reports side by side: what really changed, what did not, and what these measurements cannot tell.

Every metric of every pair of entries gets one of these words:

    faster | slower            times and throughput: the ratio lies beyond the band, and its whole 95 % interval beyond half the
                               band where both took turns in one run, beyond all of it where they were measured apart
    smaller | larger           bytes and energy, by the same rule
    more-accurate | less-accurate
                               answers (accuracy, the task's other scores, agreement with FP32): the whole 95 % interval of
                               the difference lies beyond the accuracy band
    equivalent                 the whole interval lies within the band
    inconclusive               neither: too few processes, too much noise, a machine that was itself slower or throttled,
                               or a second test that does not agree; the reason says which, and what would settle it
    incomparable               not the same measurement: another machine, load, text or target; the reason says which

The band (2 % by default) runs from 1/1.02 to 1.02, so that swapping the sides mirrors every verdict.
"""
