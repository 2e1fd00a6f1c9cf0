//! The contract, kept by this machine.

#[path = "common/contract.rs"]
#[allow(dead_code, reason = "every kind of host picks its rules")]
mod contract;

use remote_exec::Host;

async fn local() -> (Host, ()) {
    (Host::local(), ())
}

contract! { local;
    exit_status_is_the_programs stdout_and_stderr_stay_apart binary_output_arrives_unchanged hundred_megabytes_of_output
    arguments_arrive_unchanged raw_arguments_are_shell_text environment_and_directory_are_set missing_program_is_its_own_error
    secrets_are_in_no_process_list timeout_ends_the_whole_process_group dropped_call_ends_the_program
    kill_ends_the_process_group given_stdin_reaches_the_program streams_flow_both_ways slow_reader_gets_everything
    loud_stderr_blocks_nothing pipelines_tell_every_status output_goes_to_files_there output_beyond_the_limit_is_an_error
    many_commands_at_once files_can_be_worked_with umask_is_the_logins output_is_read_no_longer_than_the_timeout
}
